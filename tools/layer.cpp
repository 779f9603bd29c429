// deltatape layer: runs stored cases of the KimiDeltaAttention layer and holds them against their stored results.
#include <memory>

#include "tools/case_command.h"
#include "tools/command.h"
#include "tools/kda_run.h"
#include "tools/layer_case.h"

namespace deltatape::tools {
namespace {

// As for the operator: 16 bits are judged against f64 on the rounded inputs and parameters.
void recompute(const LayerCase& inputs, io::TensorMap& references) {
  const LayerCase wide = rounded(inputs, DType::f64, Device::cpu());
  for (const auto& [name, tensor] : run_layer(wide, kda::Implementation::recurrent)) {
    const auto found = references.find(name);
    if (found != references.end() && found->second.shape() == tensor.shape()) {
      found->second = tensor;
    }
  }
}

ReadyCase make_ready(const std::string& path, const CaseArguments& arguments) {
  const kda::Implementation implementation = model_implementation(arguments.impl);
  const DType dtype = parse_dtype("--dtype", arguments.dtype);
  const Device device = parse_device_option(arguments.device);
  const CaseFiles files(path);
  const LayerCase inputs = rounded(load_layer_case(files), dtype, device);
  ReadyCase ready;
  ready.name = files.name();
  ready.path = path;
  ready.run = [inputs, implementation] { return run_layer(inputs, implementation); };
  if (arguments.check) {
    const io::TensorMap stored = load_layer_references(files);
    ready.judge = [inputs, dtype, stored, arguments](const NamedTensors& results) {
      const bool low_precision = dtype == DType::bf16 || dtype == DType::f16;
      io::TensorMap references = stored;
      if (low_precision) {
        recompute(inputs, references);
      }
      const bool stress = low_precision && is_stress_layer(inputs);
      return compare_all(results, references, [&](const std::string& name) {
        return overridden(kda_tolerance(kind_of_layer(name), dtype, stress), arguments);
      });
    };
  }
  return ready;
}

}  // namespace

void add_layer(CLI::App& program, Action& action) {
  CLI::App& app = *program.add_subcommand("layer", "Run cases of the KDA layer and compare them with stored results");
  auto arguments = std::make_shared<CaseArguments>();
  arguments->impl = "fused";
  add_case_options(app, *arguments);
  app.add_option("--impl", arguments->impl, "composed or fused")
      ->check(one_of({"composed", "fused"}))
      ->capture_default_str();
  app.footer("Example:\n  deltatape layer cases/layer --impl fused --dtype f64 --check");
  app.callback([&action, arguments] {
    action = [arguments] {
      return run_cases(*arguments, [&](const std::string& path) { return make_ready(path, *arguments); });
    };
  });
}

}  // namespace deltatape::tools
