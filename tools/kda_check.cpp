#include "tools/kda_check.h"

#include <fmt/format.h>

#include <cmath>

#include "autograd/gradcheck.h"
#include "ops/convert.h"
#include "tools/kda_run.h"
#include "tools/kda_tolerance.h"

namespace deltatape::tools {
namespace {

CheckRow row_for(const KdaCase& c, const std::string& impl, const std::string& against, const std::string& tensor) {
  CheckRow row;
  row.seed = c.seed;
  row.description = c.description;
  row.impl = impl;
  row.against = against;
  row.tensor = tensor;
  return row;
}

}  // namespace

std::vector<CheckRow> check_against_differences(const KdaCase& c, const std::string& impl) {
  const auto named = differentiable_inputs(c.inputs);
  std::vector<Tensor> inputs;
  inputs.reserve(named.size());
  for (const auto& [name, tensor] : named) {
    inputs.push_back(tensor);
  }
  const TensorFunction f = [&](const std::vector<Tensor>& replacements) {
    const kda::Output output = kda::run(kda_implementation(impl), with_inputs(c.inputs, replacements), c.options);
    return c.options.output_final_state ? std::vector<Tensor>{output.o, output.final_state}
                                        : std::vector<Tensor>{output.o};
  };
  GradcheckOptions options;
  options.directions = 2;
  options.seed = c.seed;
  const GradcheckReport report = gradcheck(f, inputs, options);
  std::vector<CheckRow> rows;
  for (const GradcheckInput& input : report.inputs) {
    CheckRow row = row_for(c, impl, "differences", "d" + named[input.input].first);
    row.error = std::abs(input.analytic - input.numeric);
    row.limit = input.limit;
    row.ok = input.ok;
    if (!row.ok) {
      row.note = fmt::format("analytic {:.9e}, numeric {:.9e}", input.analytic, input.numeric);
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

std::vector<CheckRow> check_against_recurrence(const KdaCase& c, const std::string& impl, DType dtype, Device device) {
  const KdaCase inputs = rounded(c, dtype, device);
  const KdaCase same = widened(inputs);
  const NamedTensors results = run_kda(inputs, kda_implementation(impl));
  const NamedTensors expected = run_kda(same, kda::Implementation::recurrent);
  const bool stress = is_stress_case(same);
  std::vector<CheckRow> rows;
  for (size_t i = 0; i < results.size(); ++i) {
    const std::string& name = results[i].first;
    const Comparison comparison = compare(name, to(results[i].second, Device::cpu()), expected[i].second,
                                          kda_tolerance(kind_of_kda(name), dtype, stress));
    CheckRow row = row_for(c, impl + " " + std::string(to_string(dtype)), "recurrent f64", name);
    row.error = comparison.relative_error;
    row.limit = comparison.tolerance;
    row.ok = comparison.ok;
    if (!row.ok) {
      row.note = comparison.problem.empty()
                     ? fmt::format("largest error {:.2e} at {}", comparison.max_abs_error, comparison.index)
                     : comparison.problem;
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace deltatape::tools
