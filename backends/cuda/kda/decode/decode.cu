#include <fmt/format.h>

#include <array>
#include <limits>
#include <utility>

#include "backends/cuda/kda/decode/decode.h"
#include "backends/cuda/kda/decode/start.h"
#include "backends/cuda/kda/sequences.h"

namespace deltatape::cuda::kda::decoding {
namespace {

Source source_of(const Tensor& x) { return x.defined() ? Source{.data = x.raw(), .dtype = x.dtype()} : Source{}; }

Params params_of(const KernelProblem& problem, const KernelInputs& inputs, const KernelDecode& decode,
                 const SlotTables& tables) {
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
  p.first_slot = tables.first_slot();
  p.slots = tables.slots();
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
  if (problem.B * problem.HV * (problem.V / 64) > std::numeric_limits<int32_t>::max()) {
    return fmt::format("{} sequences of {} heads are too many blocks", problem.B, problem.HV);
  }
  return "";
}

void decode(const KernelProblem& problem, const KernelInputs& inputs, const KernelDecode& decode) {
  if (problem.T == 0) {
    return;
  }
  const Device device = inputs.q.device();
  const Stream stream = current_stream(device);
  const SlotTables tables(decode, device);
  const Params p = params_of(problem, inputs, decode, tables);
  const Size size{.heads = problem.B * problem.HV,
                  .tokens = static_cast<int>(problem.T),
                  .V = static_cast<int>(problem.V),
                  .bf16_states = decode.pool.dtype() == DType::bf16};
  if (problem.K == 64) {
    problem.state_v_first ? start<64, true>(stream, size, p) : start<64, false>(stream, size, p);
  } else {
    problem.state_v_first ? start<128, true>(stream, size, p) : start<128, false>(stream, size, p);
  }
}

}  // namespace deltatape::cuda::kda::decoding
