#include "tools/kda_run.h"

#include <array>

#include "autograd/backward.h"
#include "core/error.h"
#include "ops/ops.h"

namespace deltatape::tools {
namespace {

constexpr std::array<kda::Implementation, 4> kImplementations = {
    kda::Implementation::recurrent, kda::Implementation::chunk, kda::Implementation::fused_recurrent,
    kda::Implementation::fused_chunk};

bool keeps_wide(const std::string& name) { return name == "A_log" || name == "dt_bias" || name == "h0"; }

Tensor moved(const Tensor& x, Device device) { return x.defined() ? to(x, device) : x; }
Tensor converted(const Tensor& x, DType dtype, Device device) {
  return x.defined() ? to(to(x.detach(), dtype), device) : x;
}

// A fused kernel that was asked for by name must be the one that ran.
void check_kernel(kda::Implementation implementation, std::string_view kernel) {
  std::string_view expected;
  if (implementation == kda::Implementation::fused_recurrent) {
    expected = "kda::fused_recurrent";
  } else if (implementation == kda::Implementation::fused_chunk) {
    expected = "kda::fused_chunk";
  }
  check(expected.empty() || kernel == expected, "--impl", "{} was asked for, and '{}' ran",
        kda::name_of(implementation), kernel);
}

}  // namespace

std::vector<std::string> kda_implementations() {
  std::vector<std::string> names;
  names.reserve(kImplementations.size());
  for (const kda::Implementation implementation : kImplementations) {
    names.emplace_back(kda::name_of(implementation));
  }
  return names;
}

kda::Implementation kda_implementation(const std::string& name) {
  for (const kda::Implementation implementation : kImplementations) {
    if (name == kda::name_of(implementation)) {
      return implementation;
    }
  }
  fail("--impl", "'{}' is not one of recurrent, chunk, fused-recurrent, fused-chunk", name);
}

kda::Implementation model_implementation(const std::string& word) {
  return word == "composed" ? kda::Implementation::chunk : kda::Implementation::automatic;
}

KdaCase rounded(const KdaCase& c, DType dtype, Device device) {
  const DType wide = dtype == DType::f64 ? DType::f64 : DType::f32;
  std::vector<Tensor> replacements;
  for (const auto& [name, tensor] : differentiable_inputs(c.inputs)) {
    replacements.push_back(converted(tensor, keeps_wide(name) ? wide : dtype, device));
  }
  KdaCase result = c;
  result.inputs = with_inputs(c.inputs, replacements);
  result.inputs.cu_seqlens = moved(c.inputs.cu_seqlens, device);
  result.inputs.segment_ids = moved(c.inputs.segment_ids, device);
  result.d_o = converted(c.d_o, dtype, device);
  result.d_final_state = converted(c.d_final_state, wide, device);
  return result;
}

KdaCase widened(const KdaCase& c) {
  std::vector<Tensor> replacements;
  for (const auto& [name, tensor] : differentiable_inputs(c.inputs)) {
    replacements.push_back(to(to(tensor.detach(), Device::cpu()), DType::f64));
  }
  KdaCase result = c;
  result.inputs = with_inputs(c.inputs, replacements);
  result.inputs.cu_seqlens = moved(c.inputs.cu_seqlens, Device::cpu());
  result.inputs.segment_ids = moved(c.inputs.segment_ids, Device::cpu());
  result.d_o = converted(moved(c.d_o, Device::cpu()), DType::f64, Device::cpu());
  result.d_final_state = converted(moved(c.d_final_state, Device::cpu()), DType::f64, Device::cpu());
  return result;
}

NamedTensors run_kda(const KdaCase& c, kda::Implementation implementation) {
  const bool with_gradients = c.d_o.defined() || c.d_final_state.defined();
  const auto named = differentiable_inputs(c.inputs);
  std::vector<Tensor> leaves;
  for (const auto& [name, tensor] : named) {
    leaves.push_back(tensor.detach());
    leaves.back().set_requires_grad(with_gradients);
  }
  const kda::Output output = kda::run(implementation, with_inputs(c.inputs, leaves), c.options);
  check_kernel(implementation, output.kernel);

  NamedTensors results = {{"o", output.o.detach()}};
  std::vector<Tensor> outputs;
  std::vector<Tensor> upstream;
  const auto add_output = [&](const Tensor& result, const Tensor& gradient) {
    if (gradient.defined() && result.requires_grad()) {  // a state without time steps and h0 depends on nothing
      outputs.push_back(result);
      upstream.push_back(to(gradient, result.dtype()));
    }
  };
  add_output(output.o, c.d_o);
  if (c.options.output_final_state) {
    results.emplace_back("ht", output.final_state.detach());
    add_output(output.final_state, c.d_final_state);
  }
  if (!with_gradients) {
    return results;
  }
  BackwardOptions options;
  options.allow_unused = true;
  const std::vector<Tensor> gradients =
      outputs.empty() ? std::vector<Tensor>(leaves.size()) : grad(outputs, leaves, upstream, options);
  for (size_t i = 0; i < named.size(); ++i) {
    results.emplace_back("d" + named[i].first, gradients[i].defined() ? gradients[i] : zeros_like(leaves[i].detach()));
  }
  return results;
}

}  // namespace deltatape::tools
