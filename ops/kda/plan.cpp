#include "ops/kda/plan.h"

#include <fmt/format.h>

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
  if (few) {
    plan.text += ": one token after another, since most rows of tiles of 16 would be padding";
    plan.text +=
        options.safe_gate ? "; decays token by token, exact for any gate (safe_gate changes nothing here)" : "";
  } else {
    plan.text += ": tiles of 16 tokens";
    if (!options.safe_gate) {
      plan.text += "; decays by halving, exact for any gate (safe_gate is off)";
    } else if (options.gate == Gate::lower_bound) {
      plan.text += fmt::format("; decays centred in every tile (safe_gate, lower_bound {})", options.lower_bound);
    } else {
      plan.text += "; decays centred in tiles whose g lies within [-5, 0], by halving in all others (safe_gate)";
    }
  }
  plan.text += options.save_intermediates
                   ? fmt::format("; backward reads the states that forward keeps every {} tokens (save_intermediates)",
                                 kCheckpointSteps)
                   : "; backward computes the states again (save_intermediates is off)";
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
                        .lengths = lengths};
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
