// The KDA entries of the CUDA backend: which kernels and which arithmetic type a call runs.
#include <fmt/format.h>

#include "backends/cuda/cuda_backend.h"
#include "backends/cuda/kda/choice.h"
#include "backends/cuda/kda/decode/decode.h"
#include "backends/cuda/kda/v0/kernels.h"

namespace deltatape::cuda {
namespace kda {

Choice choose(const KernelProblem& problem, DType dtype) {
  if (problem.form == Form::recurrent) {
    return {Kernels::v0, "this form has no chunks"};
  }
  if (dtype != DType::bf16) {
    return {Kernels::v0, fmt::format("the tensors are {} and v1 takes bf16", dtype)};
  }
  return {Kernels::v0, "there is no v1 yet"};
}

namespace {

double mebibytes(int64_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

std::string heads_at_a_time(int64_t heads, int64_t all) {
  return heads < all ? fmt::format(", {} of {} heads at a time", heads, all) : "";
}

KernelPlan plan_of_v0(const KernelProblem& problem, const std::string& why) {
  const auto memory_of = problem.compute_dtype == DType::f64 ? v0::memory_of<double> : v0::memory_of<float>;
  const v0::Memory memory = memory_of(problem);
  KernelPlan plan;
  plan.text = fmt::format("v0, token after token, since {}; working memory {:.1f} MiB forward{}, {:.1f} MiB backward{}",
                          why, mebibytes(memory.forward_bytes), heads_at_a_time(memory.forward_heads, problem.HV),
                          mebibytes(memory.backward_bytes), heads_at_a_time(memory.backward_heads, problem.HV));
  plan.saved_shape = checkpoint_shape(problem);
  plan.saved_dtype = problem.compute_dtype;
  plan.forward_bytes = memory.forward_bytes;
  plan.backward_bytes = memory.backward_bytes;
  return plan;
}

}  // namespace
}  // namespace kda

kda::KernelPlan CudaBackend::kda_plan(const kda::KernelProblem& problem, DType dtype, Device device) const {
  const kda::Choice choice = kda::choose(problem, dtype);
  return kda::plan_of_v0(problem, choice.why_not_v1);
}

void CudaBackend::kda_forward(const kda::KernelProblem& problem, const kda::KernelInputs& inputs,
                              const kda::KernelOutputs& outputs) const {
  const bool wide = problem.compute_dtype == DType::f64;
  (wide ? kda::v0::forward<double> : kda::v0::forward<float>)(problem, inputs, outputs);
}

void CudaBackend::kda_backward(const kda::KernelProblem& problem, const kda::KernelInputs& inputs,
                               const kda::KernelUpstream& upstream, const kda::KernelGradients& gradients) const {
  const bool wide = problem.compute_dtype == DType::f64;
  (wide ? kda::v0::backward<double> : kda::v0::backward<float>)(problem, inputs, upstream, gradients);
}

void CudaBackend::kda_decode(const kda::KernelProblem& problem, const kda::KernelInputs& inputs,
                             const kda::KernelDecode& decode) const {
  if (kda::decoding::refusal(problem, inputs, decode).empty()) {
    kda::decoding::decode(problem, inputs, decode);
    return;
  }
  const bool wide = problem.compute_dtype == DType::f64;
  (wide ? kda::v0::decode<double> : kda::v0::decode<float>)(problem, inputs, decode);
}

}  // namespace deltatape::cuda
