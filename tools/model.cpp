// deltatape model: runs whole-model cases and holds them against their stored results.
#include <fmt/format.h>

#include <cmath>
#include <memory>
#include <set>

#include "core/error.h"
#include "tools/command.h"
#include "tools/comparison.h"
#include "tools/model_case.h"

namespace deltatape::tools {
namespace {

struct ModelArguments {
  std::vector<std::string> cases;
  std::string impl = "composed";
  std::string device = "cpu";
  std::string dtype = "f32";
  int64_t threads = 0;
  std::string out;
  bool check = false;
  std::string json;
};

Tolerance tolerance_of(DType dtype, const std::string& name) {
  if (name == "greedy_ids") {
    return {0.0, 0.5};  // the ids must be equal
  }
  return dtype == DType::f64 ? Tolerance{1e-9, 1e-12} : Tolerance{5e-4, 1e-6};
}

// Every name that either side has: a tensor that only one side has is a failure.
bool compare_all(const std::string& case_name, const std::string& prefix, const io::TensorMap& results,
                 const io::TensorMap& references, DType dtype, Table& table) {
  std::set<std::string> names;
  for (const auto* side : {&results, &references}) {
    for (const auto& [name, tensor] : *side) {
      names.insert(name);
    }
  }
  const auto find = [](const io::TensorMap& map, const std::string& name) {
    const auto found = map.find(name);
    return found == map.end() ? Tensor() : found->second;
  };
  bool ok = true;
  for (const std::string& name : names) {
    const Comparison comparison =
        compare(prefix + name, find(results, name), find(references, name), tolerance_of(dtype, name));
    add_comparison(table, case_name, comparison);
    ok = ok && comparison.ok;
  }
  return ok;
}

void describe_all(const std::string& case_name, const std::string& prefix, const io::TensorMap& results, Table& table) {
  for (const auto& [name, tensor] : results) {
    double squares = 0.0;
    for (const double x : tensor.to_vector<double>()) {
      squares += x * x;
    }
    const double rms = tensor.numel() > 0 ? std::sqrt(squares / static_cast<double>(tensor.numel())) : 0.0;
    table.add_row({case_name, prefix + name, to_string(tensor.shape()), Cell(rms, 6)});
  }
}

int run_model(const ModelArguments& arguments) {
  if (arguments.threads > 0) {
    set_threads(arguments.threads);
  }
  const Device device = Device::parse("--device", arguments.device);
  const DType dtype = parse_dtype("--dtype", arguments.dtype);
  std::vector<ModelCase> cases;  // all inputs are read before anything is computed
  std::set<std::string> names;
  for (const std::string& folder : arguments.cases) {
    cases.push_back(load_model_case(folder));
    check(names.insert(cases.back().name).second || arguments.out.empty(), "CASE",
          "two cases are called '{}', expected different names with --out", cases.back().name);
  }
  std::vector<ModelResults> references(cases.size());
  for (size_t i = 0; arguments.check && i < cases.size(); ++i) {
    references[i] = load_model_references(arguments.cases[i]);
  }
  if (!arguments.json.empty()) {
    check_writable("--json", arguments.json);
  }

  bool ok = true;
  Table table = arguments.check ? comparison_table() : Table({"case", "tensor", "shape", "rms"});
  for (size_t i = 0; i < cases.size(); ++i) {
    const ModelResults results = run_model_case(cases[i], dtype, device, arguments.impl);
    if (!arguments.out.empty()) {
      const std::filesystem::path out = arguments.out;
      save_model_results(cases.size() > 1 ? out / cases[i].name : out, results);
    }
    if (arguments.check) {
      const ModelResults& expected = references[i];
      ok = compare_all(cases[i].name, "", results.arrays, expected.arrays, dtype, table) && ok;
      ok = compare_all(cases[i].name, "grad.", results.grads, expected.grads, dtype, table) && ok;
      ok = compare_all(cases[i].name, "final.", results.final, expected.final, dtype, table) && ok;
    } else {
      describe_all(cases[i].name, "", results.arrays, table);
      describe_all(cases[i].name, "grad.", results.grads, table);
      describe_all(cases[i].name, "final.", results.final, table);
    }
  }
  table.print(stdout);
  if (!arguments.json.empty()) {
    write_json(arguments.json, table.to_json());
  }
  return ok ? kFine : kFailed;
}

}  // namespace

void add_model(CLI::App& program, Action& action) {
  CLI::App& app = *program.add_subcommand("model", "Run whole-model cases and compare them with stored results");
  auto arguments = std::make_shared<ModelArguments>();
  app.add_option("CASE", arguments->cases, "Folders with a model case (config.json has \"kind\": \"model\")")
      ->required()
      ->type_name("DIR...");
  app.add_option("--impl", arguments->impl, kImplementationHelp)
      ->check(one_of({"composed", "auto", "fused"}))
      ->capture_default_str();
  app.add_option("--device", arguments->device, "cpu or cuda")->capture_default_str();
  app.add_option("--dtype", arguments->dtype, "f64 or f32")->check(one_of({"f64", "f32"}))->capture_default_str();
  app.add_option("--threads", arguments->threads, "CPU threads, 0 for all")
      ->check(integer_in(0, kMostThreads))
      ->capture_default_str();
  app.add_option("--out", arguments->out, "Write all results here (a folder per case when there are several)")
      ->type_name("DIR");
  app.add_flag("--check", arguments->check, "Compare with the results in CASE; exit code 1 when one misses");
  app.add_option("--json", arguments->json, "Write the table as JSON")->type_name("FILE");
  app.footer("Example:\n  deltatape model cases/dense --dtype f64 --check");
  app.callback([&action, arguments] { action = [arguments] { return run_model(*arguments); }; });
}

}  // namespace deltatape::tools
