#include "tools/case_command.h"

#include <cmath>
#include <limits>
#include <set>

#include "core/error.h"
#include "io/npy.h"
#include "ops/convert.h"
#include "tools/command.h"

namespace deltatape::tools {
namespace {

namespace fs = std::filesystem;

// Where a case's results go.
fs::path folder_for(const CaseArguments& arguments, const ReadyCase& ready) {
  const fs::path out = arguments.out;
  return arguments.cases.size() > 1 ? out / ready.name : out;
}

// Everything that could be wrong with --out, before the work.
void check_out(const CaseArguments& arguments, const std::vector<ReadyCase>& cases) {
  check(!fs::exists(arguments.out) || fs::is_directory(arguments.out), "--out", "{} is a file, expected a folder",
        arguments.out);
  std::set<std::string> names;
  for (const ReadyCase& ready : cases) {
    check(names.insert(ready.name).second, "CASE", "two cases are called '{}', expected different names with --out",
          ready.name);
    const fs::path folder = folder_for(arguments, ready);
    check(!fs::exists(folder) || fs::is_directory(folder), "--out", "{} is a file, expected a folder", folder.string());
    for (const ReadyCase& other : cases) {
      check(!fs::exists(folder) || !fs::equivalent(folder, other.path), "--out",
            "{} is a case itself, expected a folder whose files may be replaced", folder.string());
    }
  }
}

void save_results(const fs::path& folder, const NamedTensors& results) {
  std::error_code error;
  fs::create_directories(folder, error);
  check(!error, "--out", "{} cannot be made: {}", folder.string(), error.message());
  for (const auto& [name, tensor] : results) {
    io::save_npy(folder / (name + ".npy"), to(tensor, DType::f64));
  }
}

void describe_all(const std::string& case_name, const NamedTensors& results, Table& table) {
  for (const auto& [name, tensor] : results) {
    double squares = 0.0;
    for (const double x : tensor.to_vector<double>()) {
      squares += x * x;
    }
    const double rms = tensor.numel() > 0 ? std::sqrt(squares / static_cast<double>(tensor.numel())) : 0.0;
    table.add_row({case_name, name, to_string(tensor.shape()), Cell(rms, 6)});
  }
}

NamedTensors on_host(NamedTensors results) {
  for (auto& [name, tensor] : results) {
    tensor = to(tensor.detach(), Device::cpu());
  }
  return results;
}

}  // namespace

void add_case_options(CLI::App& app, CaseArguments& arguments) {
  app.add_option("CASE", arguments.cases, "Folders, .npz or .safetensors files, a case each")
      ->required()
      ->type_name("PATH...");
  app.add_option("--device", arguments.device, "cpu or cuda")->capture_default_str();
  app.add_option("--dtype", arguments.dtype, "f64, f32, bf16 or f16")
      ->check(one_of({"f64", "f32", "bf16", "f16"}))
      ->capture_default_str();
  app.add_option("--threads", arguments.threads, "CPU threads, 0 for all")
      ->check(integer_in(0, kMostThreads))
      ->capture_default_str();
  app.add_option("--out", arguments.out, "Write all results here (a folder per case when there are several)")
      ->type_name("DIR");
  app.add_flag("--check", arguments.check, "Compare with the results in CASE; exit code 1 when one misses");
  const double infinite = std::numeric_limits<double>::infinity();
  CLI::Option* rtol = app.add_option("--rtol", arguments.rtol, "Limit of the relative error of every tensor")
                          ->check(number_in(0.0, infinite));
  app.add_option("--atol", arguments.atol, "A tensor whose largest absolute error is below this passes")
      ->check(number_in(0.0, infinite));
  app.add_option("--max-ulp", arguments.max_ulp,
                 "Judge by units in the last place of each element instead of the relative error")
      ->check(integer_from(0))
      ->excludes(rtol);
  app.add_option("--json", arguments.json, "Write the table as JSON")->type_name("FILE");
}

Tolerance overridden(Tolerance tolerance, const CaseArguments& arguments) {
  tolerance.relative = arguments.rtol.value_or(tolerance.relative);
  tolerance.floor = arguments.atol.value_or(tolerance.floor);
  tolerance.max_ulp = arguments.max_ulp;
  return tolerance;
}

Device parse_device_option(const std::string& text) {
  try {
    return Device::parse("--device", text);
  } catch (const Error& error) {
    fail("--device", "'{}' cannot be used: {}", text, error.what());
  }
}

int run_cases(const CaseArguments& arguments, const std::function<ReadyCase(const std::string& path)>& load) {
  if (arguments.threads > 0) {
    set_threads(arguments.threads);
  }
  std::vector<ReadyCase> cases;
  for (const std::string& path : arguments.cases) {
    cases.push_back(load(path));
  }
  if (!arguments.out.empty()) {
    check_out(arguments, cases);
  }
  if (!arguments.json.empty()) {
    check_writable("--json", arguments.json);
  }

  bool ok = true;
  std::vector<NamedTensors> all_results;
  Table table = arguments.check ? comparison_table() : Table({"case", "tensor", "shape", "rms"});
  for (const ReadyCase& ready : cases) {
    all_results.push_back(on_host(ready.run()));
    if (!arguments.check) {
      describe_all(ready.name, all_results.back(), table);
      continue;
    }
    for (const Comparison& comparison : ready.judge(all_results.back())) {
      add_comparison(table, ready.name, comparison);
      ok = ok && comparison.ok;
    }
  }
  for (size_t i = 0; i < cases.size() && !arguments.out.empty(); ++i) {
    save_results(folder_for(arguments, cases[i]), all_results[i]);
  }
  table.print(stdout);
  if (!arguments.json.empty()) {
    write_json(arguments.json, table.to_json());
  }
  return ok ? kFine : kFailed;
}

}  // namespace deltatape::tools
