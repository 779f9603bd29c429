// deltatape kda: runs stored cases of the operator and holds them against their stored results.
#include <memory>

#include "ops/kda/plan.h"
#include "tools/case_command.h"
#include "tools/command.h"
#include "tools/kda_run.h"
#include "tools/kda_tolerance.h"
#include "tools/operator_case.h"

namespace deltatape::tools {
namespace {

// 16 bits are judged against the same computation in f64 on the rounded inputs: the rounding of the inputs is not the
// kernel's error. What the case does not have, or has in another shape, stays a failure.
void recompute(const KdaCase& inputs, io::TensorMap& references) {
  for (const auto& [name, tensor] : run_kda(widened(inputs), kda::Implementation::recurrent)) {
    const auto found = references.find(name);
    if (found != references.end() && found->second.shape() == tensor.shape()) {
      found->second = tensor;
    }
  }
}

ReadyCase make_ready(const std::string& path, const CaseArguments& arguments) {
  const kda::Implementation implementation = kda_implementation(arguments.impl);
  const DType dtype = parse_dtype("--dtype", arguments.dtype);
  const Device device = parse_device_option(arguments.device);
  const CaseFiles files(path);
  const KdaCase inputs = rounded(load_operator_case(files), dtype, device);
  ReadyCase ready;
  ready.name = files.name();
  ready.path = path;
  ready.run = [inputs, implementation] { return run_kda(inputs, implementation); };
  if (arguments.check) {
    const io::TensorMap stored = load_operator_references(files);
    ready.judge = [inputs, dtype, stored, arguments](const NamedTensors& results) {
      const bool low_precision = dtype == DType::bf16 || dtype == DType::f16;
      io::TensorMap references = stored;
      if (low_precision) {
        recompute(inputs, references);
      }
      const bool stress = low_precision && is_stress_case(inputs);
      return compare_all(results, references, [&](const std::string& name) {
        return overridden(kda_tolerance(kind_of_kda(name), dtype, stress), arguments);
      });
    };
  }
  return ready;
}

}  // namespace

void add_kda(CLI::App& program, Action& action) {
  CLI::App& app = *program.add_subcommand("kda", "Run cases of the KDA operator and compare them with stored results");
  auto arguments = std::make_shared<CaseArguments>();
  arguments->impl = "fused-chunk";
  add_case_options(app, *arguments);
  app.add_option("--impl", arguments->impl, "recurrent, chunk, fused-recurrent or fused-chunk")
      ->check(one_of({"recurrent", "chunk", "fused-recurrent", "fused-chunk"}))
      ->capture_default_str();
  app.footer("Example:\n  deltatape kda cases/dense --impl fused-chunk --dtype f64 --check");
  app.callback([&action, arguments] {
    action = [arguments] {
      return run_cases(*arguments, [&](const std::string& path) { return make_ready(path, *arguments); });
    };
  });
}

}  // namespace deltatape::tools
