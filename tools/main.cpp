// The `deltatape` program: one subcommand per file of this folder. docs/command.md describes them all.
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string_view>

#include "core/error.h"
#include "core/version.h"
#include "harness/plugin/plugin.h"
#include "tools/command.h"

namespace deltatape::tools {
namespace {

// What a terminal would act on, as blanks and question marks: control characters, those that UTF-8 writes as C2 80 to
// C2 9F included. Messages quote names that come from files.
std::string one_line(std::string text) {
  text.erase(text.find_last_not_of('\n') + 1);
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const auto next = static_cast<unsigned char>(i + 1 < text.size() ? text[i + 1] : ' ');
    if (byte == 0xC2 && next >= 0x80 && next < 0xA0) {
      text.replace(i, 2, "?");
    } else if (byte < ' ' || byte == 0x7F) {
      text[i] = byte == '\n' || byte == '\t' ? ' ' : '?';
    }
  }
  return text;
}

int report(const std::string& prefix, const std::string& message, int exit_code) {
  fmt::print(stderr, "{}: {}\n", prefix, one_line(message));
  return exit_code;
}

// The subcommand in use, at whatever level, or the program itself before one is known.
CLI::App& chosen(CLI::App& program) {
  const auto used = program.get_subcommands();
  return used.empty() ? program : chosen(*used.front());
}

std::string full_name(const CLI::App& app) {
  return app.get_parent() == nullptr ? app.get_name() : full_name(*app.get_parent()) + " " + app.get_name();
}

bool has_subcommand(const CLI::App& program, const std::string& name) {
  const auto commands = program.get_subcommands({});
  return std::any_of(commands.begin(), commands.end(),
                     [&](const CLI::App* command) { return command->get_name() == name; });
}

std::string subcommand_names(const CLI::App& program) {
  std::string names;
  for (const CLI::App* command : program.get_subcommands({})) {
    names += (names.empty() ? "" : ", ") + command->get_name();
  }
  return names;
}

int run(int argc, char** argv) {
  CLI::App program("Kimi Delta Attention on a small tape: train models, run them, check their gradients.", "deltatape");
  program.set_version_flag("--version", std::string(version()));
  program.footer(
      "Exit codes: 0 fine, 1 a check or a run failed, 2 wrong input.\n\n"
      "Example:\n  deltatape train --text README.md --out run\n  deltatape generate --model run --prompt 'The '\n"
      "  deltatape train --help");
  Action action;
  add_train(program, action);
  add_generate(program, action);
  add_kda(program, action);
  add_layer(program, action);
  add_model(program, action);
  add_gradcheck(program, action);
  add_check(program, action);
  add_cases(program, action);
  add_bench(program, action);
  add_info(program, action);

  if (argc < 2) {
    return report(program.get_name(), "no subcommand, expected one of " + subcommand_names(program), kWrongInput);
  }
  const std::string first = argv[1];
  if (!first.empty() && first.front() != '-' && !has_subcommand(program, first)) {
    return report(program.get_name(),
                  "'" + first + "' is not a subcommand, expected one of " + subcommand_names(program), kWrongInput);
  }
  try {
    program.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    const CLI::App& app = chosen(program);
    fmt::print("{}", app.help(app.get_parent() == nullptr ? "" : full_name(*app.get_parent())));
    return kFine;
  } catch (const CLI::CallForVersion&) {
    fmt::print("{}\n", version());
    return kFine;
  } catch (const CLI::ParseError& error) {
    return report(full_name(chosen(program)), error.what(), kWrongInput);
  }
  if (!action) {
    return report(program.get_name(), "no subcommand, expected one of " + subcommand_names(program), kWrongInput);
  }
  try {
    return action();
  } catch (const Error& error) {
    return report(full_name(chosen(program)), error.what(), kWrongInput);
  } catch (const nlohmann::json::exception& error) {  // this and the next two: a file with values nobody expected
    return report(full_name(chosen(program)), error.what(), kWrongInput);
  } catch (const std::length_error& error) {
    return report(full_name(chosen(program)), error.what(), kWrongInput);
  } catch (const std::out_of_range& error) {
    return report(full_name(chosen(program)), error.what(), kWrongInput);
  } catch (const std::exception& error) {
    return report(full_name(chosen(program)), error.what(), kFailed);
  }
}

}  // namespace
}  // namespace deltatape::tools

int main(int argc, char** argv) {
  // Results go to stdout, everything else to stderr.
  spdlog::set_default_logger(spdlog::stderr_color_mt("deltatape"));
  spdlog::set_pattern("%^%l%$: %v");
  if (argc > 1 && std::string_view(argv[1]) == "plugin-worker") {  // what `check --plugin` runs; no command of a person
    return deltatape::harness::plugin_worker({argv + 2, argv + argc});
  }
  return deltatape::tools::run(argc, argv);
}
