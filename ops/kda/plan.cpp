#include "ops/kda/plan.h"

#include <fmt/format.h>

#include <cmath>

#include "backends/backend.h"
#include "core/error.h"
#include "ops/kda/chunk.h"
#include "ops/kda/fused.h"
#include "ops/kda/inputs.h"
#include "ops/kda/recurrent.h"

namespace deltatape::kda {
namespace {

void check_sizes(const Shapes& s) {
  constexpr std::string_view kName = "kda::plan";
  check(s.B >= 0 && s.T >= 0, kName, "B and T are {} and {}, expected 0 or more", s.B, s.T);
  check(s.H > 0 && s.K > 0 && s.V > 0, kName, "H, K and V are {}, {} and {}, expected 1 or more", s.H, s.K, s.V);
  check(s.HV > 0 && s.HV % s.H == 0, kName, "HV is {}, expected a multiple of H = {}", s.HV, s.H);
  check(is_floating(s.dtype), kName, "dtype is {}, expected a floating-point one", s.dtype);
  check(!s.cu_seqlens || s.B == 1, kName, "B is {}, expected 1 with cu_seqlens", s.B);
  check(!(s.cu_seqlens && s.segment_ids), kName,
        "segment_ids and cu_seqlens are both given, expected at most one of them");
  int64_t sum = 0;
  for (const int64_t length : s.lengths) {
    check(length >= 0, kName, "lengths has a {}, expected numbers of 0 or more", length);
    sum += length;
  }
  check(s.lengths.empty() || sum == s.B * s.T, kName, "lengths add up to {}, expected B T = {}", sum, s.B * s.T);
}

/// Whether more than half of the rows of the chunk form's tiles would be padding.
bool mostly_padding(const Shapes& s) {
  constexpr int64_t kRows = 16;
  const auto padded = [](int64_t length) { return (length + kRows - 1) / kRows * kRows; };
  int64_t rows = s.lengths.empty() ? s.B * padded(s.T) : 0;
  for (const int64_t length : s.lengths) {
    rows += padded(length);
  }
  return rows > 2 * s.B * s.T || s.B * s.T == 0;
}

/// What the kernels take of a call with these sizes; sequences of which nothing is known count as one.
KernelProblem problem_of(const Options& options, const Shapes& s, Form form) {
  Problem p;
  p.B = s.B;
  p.T = s.T;
  p.H = s.H;
  p.HV = s.HV;
  p.K = s.K;
  p.V = s.V;
  p.scale = options.scale.value_or(1.0 / std::sqrt(static_cast<double>(s.K)));
  p.compute_dtype = s.dtype == DType::f64 ? DType::f64 : DType::f32;
  const std::vector<int64_t> rows(static_cast<size_t>(s.B), s.T);
  int64_t token = 0;
  for (const int64_t length : s.lengths.empty() ? rows : s.lengths) {
    const int64_t row = s.T > 0 && length > 0 ? token / s.T : 0;
    const auto n = static_cast<int64_t>(p.sequences.size());
    const int64_t begin = token - row * s.T;
    const int64_t state = !s.segment_ids ? n : begin == 0 ? row : -1;
    p.sequences.push_back({.row = row,
                           .begin = begin,
                           .end = begin + length,
                           .state_in = s.initial_state ? state : -1,
                           .state_out = options.output_final_state ? state : -1});
    token += length;
  }
  return kernel_problem(p, options, form);
}

/// The words about tiles of 16 tokens and their decays: what the CPU's chunk kernel does.
std::string tiles_text(const Options& options) {
  if (!options.safe_gate) {
    return ": tiles of 16 tokens; decays by halving, exact for any gate (safe_gate is off)";
  }
  if (options.gate == Gate::lower_bound) {
    return fmt::format(": tiles of 16 tokens; decays centred in every tile (safe_gate, lower_bound {})",
                       options.lower_bound);
  }
  return ": tiles of 16 tokens; decays centred in tiles whose g lies within [-5, 0], by halving in all others "
         "(safe_gate)";
}

/// The words about the CPU's kernel; `few`: the recurrent one.
std::string host_text(const Options& options, bool few) {
  if (!few) {
    return tiles_text(options);
  }
  return fmt::format(
      ": one token after another, since most rows of tiles of 16 would be padding{}",
      options.safe_gate ? "; decays token by token, exact for any gate (safe_gate changes nothing here)" : "");
}

std::string saved_text(const Options& options, const KernelPlan& kernel, Device device) {
  if (!options.save_intermediates) {
    return fmt::format("; backward computes {} again (save_intermediates is off)",
                       device.is_cpu() ? "the states" : "what it needs");
  }
  if (device.is_cpu()) {
    return fmt::format("; backward reads the states that forward keeps every {} tokens (save_intermediates)",
                       kCheckpointSteps);
  }
  const int64_t bytes = kernel.saved_shape.numel() * static_cast<int64_t>(size_of(kernel.saved_dtype));
  if (bytes == 0) {
    return "; backward computes what it needs again (forward keeps nothing here)";
  }
  return fmt::format("; backward reads the {:.1f} MiB that forward keeps (save_intermediates)",
                     static_cast<double>(bytes) / (1 << 20));
}

}  // namespace

std::string_view name_of(Implementation implementation) {
  switch (implementation) {
    case Implementation::automatic:
      return "automatic";
    case Implementation::recurrent:
      return "recurrent";
    case Implementation::chunk:
      return "chunk";
    case Implementation::fused_recurrent:
      return "fused-recurrent";
    case Implementation::fused_chunk:
      return "fused-chunk";
  }
  fail("kda::name_of", "implementation is {}, expected one of the enumeration", static_cast<int>(implementation));
}

Plan plan(const Options& options, const Shapes& s, Device device) {
  check_options("kda::plan", options);
  check_sizes(s);
  Plan plan;
  const bool few = mostly_padding(s);
  plan.implementation = few ? Implementation::fused_recurrent : Implementation::fused_chunk;
  plan.text =
      fmt::format("{} on {}, in {}", name_of(plan.implementation), device, s.dtype == DType::f64 ? "f64" : "f32");
  if (s.dtype == DType::bf16 || s.dtype == DType::f16) {
    plan.text += fmt::format(" (tensors in {})", s.dtype);
  }
  const KernelPlan kernel =
      backend_of(device).kda_plan(problem_of(options, s, few ? Form::recurrent : Form::chunk), s.dtype, device);
  plan.text += device.is_cpu() ? host_text(options, few) : ": " + kernel.text;
  plan.text += saved_text(options, kernel, device);
  plan.forward_bytes = kernel.forward_bytes;
  plan.backward_bytes = kernel.backward_bytes;
  if (options.output_h) {
    plan.text += fmt::format("; h has a state every {} tokens", options.chunk_size);
  }
  if (s.cu_seqlens) {
    plan.text += "; every sequence of cu_seqlens by itself";
  }
  if (s.segment_ids) {
    plan.text += "; every segment of segment_ids by itself";
  }
  plan.text += "; gradients of gradients by the composed ";
  plan.text += few ? "recurrent" : "chunk";
  return plan;
}

Output run(Implementation implementation, const Inputs& inputs, const Options& options) {
  if (implementation == Implementation::automatic) {
    const Problem p = check_inputs("kda::run", inputs, options);
    std::vector<int64_t> lengths;
    lengths.reserve(p.sequences.size());
    for (const Sequence& sequence : p.sequences) {
      lengths.push_back(sequence.length());
    }
    const Shapes shapes{.B = p.B,
                        .T = p.T,
                        .H = p.H,
                        .HV = p.HV,
                        .K = p.K,
                        .V = p.V,
                        .dtype = inputs.q.dtype(),
                        .cu_seqlens = p.varlen,
                        .segment_ids = p.segmented,
                        .lengths = lengths,
                        .initial_state = inputs.initial_state.defined()};
    return run(plan(options, shapes, inputs.q.device()).implementation, inputs, options);
  }
  switch (implementation) {
    case Implementation::recurrent:
      return recurrent(inputs, options);
    case Implementation::chunk:
      return chunk(inputs, options);
    case Implementation::fused_recurrent:
      return fused_recurrent(inputs, options);
    case Implementation::fused_chunk:
      return fused_chunk(inputs, options);
    default:
      fail("kda::run", "implementation is {}, expected one of the enumeration", static_cast<int>(implementation));
  }
}

}  // namespace deltatape::kda
