// The KDA entries of the CPU backend: which kernel and which arithmetic type a call runs.
#include "backends/cpu/cpu_backend.h"
#include "backends/cpu/kda/kernels.h"

namespace deltatape::cpu {

kda::KernelPlan CpuBackend::kda_plan(const kda::KernelProblem& problem, DType /*dtype*/, Device /*device*/) const {
  return {.saved_shape = kda::checkpoint_shape(problem), .saved_dtype = problem.compute_dtype};
}

void CpuBackend::kda_forward(const kda::KernelProblem& problem, const kda::KernelInputs& inputs,
                             const kda::KernelOutputs& outputs) const {
  const bool chunk = problem.form == kda::Form::chunk;
  if (problem.compute_dtype == DType::f64) {
    (chunk ? kda::chunk_forward<double> : kda::recurrent_forward<double>)(problem, inputs, outputs);
  } else {
    (chunk ? kda::chunk_forward<float> : kda::recurrent_forward<float>)(problem, inputs, outputs);
  }
}

void CpuBackend::kda_backward(const kda::KernelProblem& problem, const kda::KernelInputs& inputs,
                              const kda::KernelUpstream& upstream, const kda::KernelGradients& gradients) const {
  const bool chunk = problem.form == kda::Form::chunk;
  if (problem.compute_dtype == DType::f64) {
    (chunk ? kda::chunk_backward<double> : kda::recurrent_backward<double>)(problem, inputs, upstream, gradients);
  } else {
    (chunk ? kda::chunk_backward<float> : kda::recurrent_backward<float>)(problem, inputs, upstream, gradients);
  }
}

void CpuBackend::kda_decode(const kda::KernelProblem& problem, const kda::KernelInputs& inputs,
                            const kda::KernelDecode& decode) const {
  if (problem.compute_dtype == DType::f64) {
    kda::decode_steps<double>(problem, inputs, decode);
  } else {
    kda::decode_steps<float>(problem, inputs, decode);
  }
}

}  // namespace deltatape::cpu
