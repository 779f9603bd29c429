#include "tools/kda_check.h"

#include <fmt/format.h>

#include <cmath>

#include "autograd/backward.h"
#include "autograd/gradcheck.h"
#include "core/error.h"
#include "ops/kda/chunk.h"
#include "ops/kda/recurrent.h"
#include "ops/ops.h"
#include "tools/comparison.h"

namespace deltatape::tools {
namespace {

kda::Output run_implementation(const std::string& impl, const kda::Inputs& inputs, const kda::Options& options) {
  if (impl == "recurrent") {
    return kda::recurrent(inputs, options);
  }
  check(impl == "chunk", "--impl", "'{}' is not one of recurrent, chunk", impl);
  return kda::chunk(inputs, options);
}

// Outputs and gradients by the names of their files: o, ht, dq, ...
using NamedResults = std::vector<std::pair<std::string, Tensor>>;

NamedResults run_with_gradients(const KdaCase& c, const kda::Inputs& inputs, const std::string& impl) {
  std::vector<Tensor> leaves;
  const auto named = differentiable_inputs(inputs);
  for (const auto& [name, tensor] : named) {
    leaves.push_back(tensor.detach());
    leaves.back().set_requires_grad();
  }
  const kda::Output output = run_implementation(impl, with_inputs(inputs, leaves), c.options);
  std::vector<Tensor> outputs = {output.o};
  std::vector<Tensor> upstream = {to(to(c.d_o, output.o.dtype()), output.o.device())};
  NamedResults results = {{"o", output.o.detach()}};
  if (c.options.output_final_state) {
    outputs.push_back(output.final_state);
    upstream.push_back(to(to(c.d_final_state, output.final_state.dtype()), output.o.device()));
    results.emplace_back("ht", output.final_state.detach());
  }
  BackwardOptions options;
  options.allow_unused = true;
  const std::vector<Tensor> gradients = grad(outputs, leaves, upstream, options);
  for (size_t i = 0; i < named.size(); ++i) {
    const Tensor gradient = gradients[i].defined() ? gradients[i] : zeros_like(leaves[i]);
    results.emplace_back("d" + named[i].first, gradient);
  }
  return results;
}

bool keeps_wide(const std::string& name) { return name == "A_log" || name == "dt_bias" || name == "h0"; }

// The inputs as a kernel of this dtype gets them.
kda::Inputs rounded(const kda::Inputs& inputs, DType dtype, Device device) {
  std::vector<Tensor> replacements;
  for (const auto& [name, tensor] : differentiable_inputs(inputs)) {
    const bool wide = keeps_wide(name) && dtype != DType::f64;
    replacements.push_back(to(to(tensor, wide ? DType::f32 : dtype), device));
  }
  kda::Inputs result = with_inputs(inputs, replacements);
  if (result.cu_seqlens.defined()) {
    result.cu_seqlens = to(result.cu_seqlens, device);
  }
  return result;
}

kda::Inputs widened(const kda::Inputs& inputs) {
  std::vector<Tensor> replacements;
  for (const auto& [name, tensor] : differentiable_inputs(inputs)) {
    replacements.push_back(to(to(tensor, Device::cpu()), DType::f64));
  }
  kda::Inputs result = with_inputs(inputs, replacements);
  if (result.cu_seqlens.defined()) {
    result.cu_seqlens = to(result.cu_seqlens, Device::cpu());
  }
  return result;
}

Tolerance tolerance_of(const std::string& tensor, DType dtype, const kda::Options& options) {
  if (dtype == DType::f64) {
    return {1e-9, 1e-12};
  }
  const bool output = tensor == "o" || tensor == "ht";
  const bool gate = tensor == "dg" || tensor == "dA_log" || tensor == "ddt_bias";
  if (dtype == DType::f32) {
    return {output ? 5e-5 : gate ? 5e-4 : 2e-4, 1e-6};
  }
  const double stress = options.allow_neg_eigval ? 2.0 : 1.0;  // beta up to 2
  return {stress * (output ? 5e-3 : gate || tensor == "dbeta" ? 2e-2 : 8e-3), 1e-6};
}

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

std::vector<std::string> kda_implementations() { return {"recurrent", "chunk"}; }

std::vector<CheckRow> check_against_differences(const KdaCase& c, const std::string& impl) {
  const auto named = differentiable_inputs(c.inputs);
  std::vector<Tensor> inputs;
  for (const auto& [name, tensor] : named) {
    inputs.push_back(tensor);
  }
  const TensorFunction f = [&](const std::vector<Tensor>& replacements) {
    const kda::Output output = run_implementation(impl, with_inputs(c.inputs, replacements), c.options);
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
  const kda::Inputs inputs = rounded(c.inputs, dtype, device);
  // The upstream gradients are rounded, too: that rounding is not the kernel's error.
  KdaCase same = c;
  same.d_o = to(to(c.d_o, dtype), DType::f64);
  if (c.d_final_state.defined()) {
    same.d_final_state = dtype == DType::f64 ? c.d_final_state : to(to(c.d_final_state, DType::f32), DType::f64);
  }
  const NamedResults results = run_with_gradients(same, inputs, impl);
  const NamedResults expected = run_with_gradients(same, widened(inputs), "recurrent");
  std::vector<CheckRow> rows;
  for (size_t i = 0; i < results.size(); ++i) {
    const std::string& name = results[i].first;
    const Comparison comparison =
        compare(name, to(results[i].second, Device::cpu()), expected[i].second, tolerance_of(name, dtype, c.options));
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
