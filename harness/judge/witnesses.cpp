#include "harness/judge/witnesses.h"

#include <cmath>

#include "autograd/gradcheck.h"
#include "harness/judge/expectation.h"

namespace deltatape::harness {
namespace {

constexpr double kSameInF64 = 1e-9;

void compare_with_other(const Reference& reference, const Case& wide, const std::string& text,
                        std::vector<WitnessReport>& rows) {
  const Expectation expected(reference, wide);
  const NamedTensors others = run_on_tape(reference.other, wide);
  for (const Expected& value : expected.results()) {
    const Tensor other = find(others, value.name);
    WitnessReport row{.witness = reference.other_name, .text = text, .tensor = value.name};
    row.error = relative_distance(other, value.value);
    // Sums that cancel to nothing leave noise of the size of their terms.
    row.limit = kSameInF64;
    row.ok = row.error <= row.limit || absolute_distance(other, value.value) <= kSameInF64 * value.scale;
    rows.push_back(std::move(row));
  }
}

void compare_with_differences(const Reference& reference, const Case& wide, const std::string& text,
                              std::vector<WitnessReport>& rows) {
  std::vector<Tensor> inputs;
  std::vector<std::string> names;
  for (const auto& [name, tensor] : wide.inputs) {
    if (is_floating(tensor.dtype()) && tensor.numel() > 0) {
      inputs.push_back(tensor);
      names.push_back(name);
    }
  }
  if (inputs.empty()) {
    return;  // a case without tokens, states and parameters
  }
  const TensorFunction f = [&](const std::vector<Tensor>& replacements) {
    NamedTensors replaced = wide.inputs;
    size_t next = 0;
    for (auto& input : replaced) {
      if (is_floating(input.second.dtype()) && input.second.numel() > 0) {
        input.second = replacements[next++];
      }
    }
    std::vector<Tensor> outputs;
    for (const auto& output : reference.forward(wide.settings, replaced)) {
      outputs.push_back(output.second);
    }
    return outputs;
  };
  // The differences' own noise: rounding of the loss, divided by the step.
  double sum = 0.0;
  for (const Tensor& output : f(inputs)) {
    for (const double value : output.to_vector<double>()) {
      sum += std::abs(value);
    }
  }
  GradcheckOptions options;
  const double noise = 4.0 * unit_roundoff(DType::f64) * sum / options.step;
  options.directions = 1;
  options.seed = static_cast<uint64_t>(wide.settings.integer("seed"));
  for (const GradcheckInput& input : gradcheck(f, inputs, options).inputs) {
    WitnessReport row{.witness = "central differences", .text = text, .tensor = "d" + names[input.input]};
    row.error = std::abs(input.analytic - input.numeric);
    row.limit = input.limit + noise;
    row.ok = row.error <= row.limit;
    rows.push_back(std::move(row));
  }
}

}  // namespace

std::vector<WitnessReport> compare_witnesses(const Reference& reference, const Case& c, const std::string& text) {
  const Case wide = widened(c);
  std::vector<WitnessReport> rows;
  if (reference.other) {
    compare_with_other(reference, wide, text, rows);
  }
  if (!wide.upstream.empty()) {
    compare_with_differences(reference, wide, text, rows);
  }
  return rows;
}

}  // namespace deltatape::harness
