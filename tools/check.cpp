// deltatape check: holds a kernel against the tape on drawn cases.
#include "harness/check.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <memory>

#include "harness/kda/kda.h"
#include "harness/numbers.h"
#include "harness/plugin/plugin.h"
#include "tools/case_space.h"
#include "tools/command.h"
#include "tools/kda_run.h"
#include "tools/progress.h"
#include "tools/report_files.h"
#include "tools/table.h"

namespace deltatape::tools {
namespace {

struct CheckArguments {
  std::string plugin;
  std::string impl;
  std::string budget = "60s";
  int64_t cases = 0;
  int64_t seed = 0;
  std::string dtype = "f32,f64";
  std::string space;
  std::string one_case;
  std::string timeout = "10s";
  int64_t threads = 2;
  int64_t repeats = 2;
  bool stop = false;
  bool no_shrink = false;
  bool strict = false;
  bool axes = false;
  ReportFiles files;
};

/// `90`, `90s`, `1.5m`, `500ms` in seconds.
double parse_duration(const char* option, const std::string& text) {
  std::string number = text;
  double unit = 1.0;
  for (const auto& [suffix, seconds] : {std::pair{"ms", 1e-3}, std::pair{"s", 1.0}, std::pair{"m", 60.0}}) {
    if (number.ends_with(suffix)) {
      number.resize(number.size() - std::string_view(suffix).size());
      unit = seconds;
      break;
    }
  }
  const std::optional<double> value = harness::parse_number(number);
  check(value && *value * unit >= 1e-3 && *value * unit <= 1e6, option,
        "'{}' is not a duration from 1ms to 1000000s, such as 60s, 2m or 500ms", text);
  return *value * unit;
}

int print_axes(const harness::Space& space) {
  Table table({"axis", "simplest", "what it is"});
  for (const harness::Axis& axis : space.axes()) {
    const std::string words = axis.words.empty() ? "" : fmt::format(": {}", fmt::join(axis.words, ", "));
    table.add_row({axis.name, harness::to_text(axis.simplest), axis.help + words});
  }
  table.print(stdout);
  return kFine;
}

harness::Candidate candidate_of(const CheckArguments& arguments) {
  check(arguments.plugin.empty() != arguments.impl.empty(), "check", "expected one of --plugin and --impl");
  if (!arguments.impl.empty()) {
    return harness::kda_candidate(kda_implementation(arguments.impl));
  }
  harness::PluginOptions options;
  // No call may outlast what the whole check was given.
  options.timeout = std::min(parse_duration("--timeout", arguments.timeout),
                             std::max(1.0, parse_duration("--budget", arguments.budget)));
  options.threads = arguments.threads;
  return harness::plugin_candidate(arguments.plugin, options);
}

/// `text` as one word for a shell.
std::string quoted(const std::string& text) {
  std::string word = "'";
  for (const char c : text) {
    word += c == '\'' ? "'\\''" : std::string(1, c);
  }
  return word + "'";
}

/// The command up to the choice of cases.
std::string same_kernel(const CheckArguments& arguments) {
  std::string command = "deltatape check ";
  command += arguments.plugin.empty() ? "--impl " + arguments.impl : "--plugin " + quoted(arguments.plugin);
  command += fmt::format(" --threads {}", arguments.threads);
  command += arguments.repeats == 2 ? "" : fmt::format(" --repeats {}", arguments.repeats);
  command += arguments.plugin.empty() || arguments.timeout == "10s" ? "" : " --timeout " + arguments.timeout;
  return command + (arguments.strict ? " --strict" : "");
}

std::string same_cases(const CheckArguments& arguments, uint64_t seed, int64_t count) {
  const std::string space = arguments.space.empty() ? "" : " --space " + quoted(arguments.space);
  return fmt::format("{} --seed {} --cases {} --dtype {}{}", same_kernel(arguments), seed, count, arguments.dtype,
                     space);
}

int run_check(const CheckArguments& arguments) {
  harness::Space space = harness::kda_space();
  if (arguments.axes) {
    return print_axes(space);
  }
  harness::CheckOptions options;
  options.budget = parse_duration("--budget", arguments.budget);
  options.cases = arguments.cases;
  options.seed = static_cast<uint64_t>(arguments.seed);
  options.repeats = arguments.repeats;
  options.shrink = !arguments.no_shrink;
  options.stop = arguments.stop;
  options.accuracy_fails = arguments.strict;
  options.command = [&](const std::string& text) { return same_kernel(arguments) + " --case " + quoted(text); };
  options.run_command = [&](uint64_t seed, int64_t count) { return same_cases(arguments, seed, count); };
  restrict_space(space, arguments.dtype, arguments.space);
  std::optional<harness::Settings> fixed;
  if (!arguments.one_case.empty()) {
    fixed = naming("--case", [&] { return space.parse(arguments.one_case); });
  }
  check_writable(arguments.files);
  set_threads(arguments.threads);
  const harness::Candidate candidate = candidate_of(arguments);
  const harness::Reference reference = harness::kda_reference();
  if (fixed) {
    return publish(harness::check_one(reference, candidate, space, *fixed, options), arguments.files);
  }
  fmt::print(
      stderr, "{} from seed {}: {}\n", candidate.name, arguments.seed,
      arguments.cases > 0 ? fmt::format("{} cases, {} at most", arguments.cases, arguments.budget) : arguments.budget);
  harness::Report report;
  {
    constexpr int64_t kSteps = 1000;
    Progress progress(0, kSteps, Progress::Unit::percent);
    options.progress = [&](double done, const std::string& text) {
      progress.update(static_cast<int64_t>(done * kSteps), text);
    };
    report = harness::check_operator(reference, candidate, space, options);
  }
  return publish(report, arguments.files);
}

}  // namespace

void add_check(CLI::App& program, Action& action) {
  CLI::App& app = *program.add_subcommand("check", "Check a KDA kernel against the tape on drawn cases");
  auto arguments = std::make_shared<CheckArguments>();
  app.add_option("--plugin", arguments->plugin, "The kernel: a shared library (harness/plugin/deltatape_plugin.h)")
      ->type_name("LIB.so");
  app.add_option("--impl", arguments->impl, "The kernel: recurrent, chunk, fused-recurrent or fused-chunk");
  app.add_option("--budget", arguments->budget, "Time for drawing cases: 60s, 2m, 500ms")->capture_default_str();
  app.add_option("--cases", arguments->cases, "At most so many cases; 0: as many as the budget allows")
      ->check(integer_from(0))
      ->capture_default_str();
  app.add_option("--seed", arguments->seed, "Of the first case; the next has the next one")
      ->check(integer_in(0, int64_t{1} << 62))
      ->capture_default_str();
  app.add_option("--dtype", arguments->dtype, "f64, f32, bf16, f16 with commas, or all")
      ->type_name("LIST")
      ->capture_default_str();
  app.add_option("--space", arguments->space, "Restrict axes: T=1..130,K=64|128,gate=standard (--axes lists them)")
      ->type_name("AXES");
  app.add_option("--case", arguments->one_case, "One case: seed=7,T=3,..; other axes at their simplest")
      ->type_name("SETTINGS");
  app.add_flag("--axes", arguments->axes, "List the axes of the space and end");
  app.add_option("--timeout", arguments->timeout, "For one call of a plugin")->capture_default_str();
  app.add_option("--threads", arguments->threads, "CPU threads, of the kernel too")
      ->check(integer_in(1, kMostThreads))
      ->capture_default_str();
  app.add_option("--repeats", arguments->repeats, "Runs of every case, which must agree bit by bit; 1: not compared")
      ->check(integer_in(1, 1000))
      ->capture_default_str();
  app.add_flag("--stop", arguments->stop, "At the first case that fails");
  app.add_flag("--no-shrink", arguments->no_shrink, "Do not look for a smaller case that fails");
  app.add_flag("--strict", arguments->strict, "Fail also what is only less accurate than the composed path");
  add_report_options(app, arguments->files);
  app.footer(
      "Exit codes: 0 passed, 1 a case failed (or none could be run), 2 wrong input. docs/harness.md has the "
      "verdicts.\n\n"
      "Example:\n  deltatape check --plugin ./libmy_kda.so --budget 60s --html report.html\n"
      "  deltatape check --impl fused-chunk --dtype all --space T=1..70,gate=standard --budget 10s");
  app.callback([&action, arguments] { action = [arguments] { return run_check(*arguments); }; });
}

}  // namespace deltatape::tools
