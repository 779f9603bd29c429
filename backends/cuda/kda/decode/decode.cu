#include <fmt/format.h>

#include <array>
#include <limits>
#include <utility>

#include "backends/cuda/kda/decode/decode.h"
#include "backends/cuda/kda/decode/kernel.h"
#include "backends/cuda/kda/sequences.h"
#include "backends/cuda/kda/tile/launch.h"

namespace deltatape::cuda::kda::decoding {
namespace {

/// Blocks that fill the multiprocessors of an H200 with two each: below, a state is cut into slices of V.
constexpr int64_t kEnoughBlocks = 264;

Source source_of(const Tensor& x) { return x.defined() ? Source{.data = x.raw(), .dtype = x.dtype()} : Source{}; }

Params params_of(const KernelProblem& problem, const KernelInputs& inputs, const KernelDecode& decode,
                 const Tensor& first_slot, const Tensor& slots) {
  Params p;
  p.q = source_of(inputs.q);
  p.k = source_of(inputs.k);
  p.v = source_of(inputs.v);
  p.g = source_of(inputs.g);
  p.beta = source_of(inputs.beta);
  p.A_log = source_of(inputs.A_log);
  p.dt_bias = source_of(inputs.dt_bias);
  p.pool = decode.pool.mutable_raw();
  p.o = decode.o.mutable_raw();
  p.o_dtype = decode.o.dtype();
  p.first_slot = static_cast<const int64_t*>(first_slot.raw());
  p.slots = static_cast<const int64_t*>(slots.raw());
  p.tokens = static_cast<int>(problem.T);
  p.H = static_cast<int>(problem.H);
  p.HV = static_cast<int>(problem.HV);
  p.gate = problem.gate;
  p.lower_bound = static_cast<float>(problem.lower_bound);
  p.scale = static_cast<float>(problem.scale);
  p.beta_factor = static_cast<float>(problem.beta_factor);
  p.l2norm = problem.l2norm;
  p.beta_sigmoid = problem.beta_sigmoid;
  return p;
}

/// Whether a block takes half of V: for several tokens where V is 128, and where there would be too few blocks.
bool in_halves(const KernelProblem& problem) {
  return (problem.V == 128 && problem.T > 1) || problem.B * problem.HV < kEnoughBlocks;
}

template <int K, int V, int slice, bool v_first, class T>
void start(const Stream& stream, const KernelProblem& problem, const Params& p) {
  tile::launch_warps<Decode<K, V, slice, v_first, T>>(stream, Grid{problem.B * problem.HV * (V / slice)}, p);
}
template <int K, int V, bool v_first, class T>
void start(const Stream& stream, const KernelProblem& problem, const Params& p) {
  in_halves(problem) ? start<K, V, V / 2, v_first, T>(stream, problem, p)
                     : start<K, V, V, v_first, T>(stream, problem, p);
}

}  // namespace

std::string refusal(const KernelProblem& problem, const KernelInputs& inputs, const KernelDecode& decode) {
  const auto fits = [](int64_t n) { return n == 64 || n == 128; };
  if (!fits(problem.K) || !fits(problem.V)) {
    return fmt::format("K = {} and V = {} are not both 64 or 128", problem.K, problem.V);
  }
  if (problem.compute_dtype != DType::f32) {
    return fmt::format("it computes in {}", problem.compute_dtype);
  }
  if (decode.pool.dtype() != DType::f32 && decode.pool.dtype() != DType::bf16) {
    return fmt::format("the pool is {}", decode.pool.dtype());
  }
  const std::array<std::pair<const char*, const Tensor*>, 9> tensors{{{"q", &inputs.q},
                                                                      {"k", &inputs.k},
                                                                      {"v", &inputs.v},
                                                                      {"g", &inputs.g},
                                                                      {"beta", &inputs.beta},
                                                                      {"A_log", &inputs.A_log},
                                                                      {"dt_bias", &inputs.dt_bias},
                                                                      {"pool", &decode.pool},
                                                                      {"o", &decode.o}}};
  for (const auto& [name, x] : tensors) {
    if (x->defined() && x->dtype() == DType::f64) {
      return fmt::format("{} is f64", name);
    }
    // Four elements are read at a time, one of beta and A_log.
    const size_t alignment =
        (x == &inputs.beta || x == &inputs.A_log ? 1 : 4) * (x->defined() ? size_of(x->dtype()) : 1);
    if (x->defined() && reinterpret_cast<uintptr_t>(x->raw()) % alignment != 0) {
      return fmt::format("{} begins at an address that is no multiple of {} bytes", name, alignment);
    }
  }
  if (problem.B * problem.HV * (problem.V / 32) > std::numeric_limits<int32_t>::max()) {
    return fmt::format("{} sequences of {} heads are too many blocks", problem.B, problem.HV);
  }
  return "";
}

void decode(const KernelProblem& problem, const KernelInputs& inputs, const KernelDecode& decode) {
  const Device device = inputs.q.device();
  const Stream stream = current_stream(device);
  const Tensor first_slot = to_device(decode.first_slot, device);
  const Tensor slots = to_device(decode.slots, device);
  const Params p = params_of(problem, inputs, decode, first_slot, slots);
  const bool bf16_states = decode.pool.dtype() == DType::bf16;
  const auto start_sized = [&]<int K, int V>(std::integer_sequence<int, K, V>) {
    if (problem.state_v_first) {
      bf16_states ? start<K, V, true, BFloat16>(stream, problem, p) : start<K, V, true, float>(stream, problem, p);
    } else {
      bf16_states ? start<K, V, false, BFloat16>(stream, problem, p) : start<K, V, false, float>(stream, problem, p);
    }
  };
  if (problem.K == 64) {
    problem.V == 64 ? start_sized(std::integer_sequence<int, 64, 64>{})
                    : start_sized(std::integer_sequence<int, 64, 128>{});
  } else {
    problem.V == 64 ? start_sized(std::integer_sequence<int, 128, 64>{})
                    : start_sized(std::integer_sequence<int, 128, 128>{});
  }
}

}  // namespace deltatape::cuda::kda::decoding
