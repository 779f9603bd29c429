// Tensors of a call as the kernels of v1 take them.
#pragma once

#include <cstdint>

#include "backends/backend.h"
#include "backends/cuda/kda/v1/prep.h"
#include "backends/kda.h"
#include "core/tensor.h"

namespace deltatape::cuda::kda::v1 {

/// The tensor itself where it has this dtype and begins at a multiple of 16 bytes, otherwise a copy. Undefined stays
/// undefined.
inline Tensor as_operand(const Tensor& x, DType dtype) {
  if (!x.defined() || (x.dtype() == dtype && reinterpret_cast<uintptr_t>(x.raw()) % 16 == 0)) {
    return x;
  }
  Tensor copy = empty(x.shape(), {dtype, x.device()});
  backend_of(x).copy(x, copy);
  return copy;
}
/// The same for a tensor that kernels take as bf16 or f32.
inline Tensor as_bf16_or_f32(const Tensor& x) {
  return as_operand(x, x.dtype() == DType::f32 ? DType::f32 : DType::bf16);
}

template <class T>
const T* data_of(const Tensor& x) {
  return x.defined() ? static_cast<const T*>(x.raw()) : nullptr;
}
template <class T>
T* mutable_data_of(const Tensor& x) {
  return x.defined() ? static_cast<T*>(x.mutable_raw()) : nullptr;
}

/// The tensors that prep reads, as operands.
struct PrepOperands {
  Tensor q;
  Tensor k;
  Tensor g;
  Tensor beta;
  Tensor A_log;
  Tensor dt_bias;

  explicit PrepOperands(const KernelInputs& inputs)
      : q(as_operand(inputs.q, DType::bf16)),
        k(as_operand(inputs.k, DType::bf16)),
        g(as_bf16_or_f32(inputs.g)),
        beta(as_bf16_or_f32(inputs.beta)),
        A_log(as_operand(inputs.A_log, DType::f32)),
        dt_bias(as_operand(inputs.dt_bias, DType::f32)) {}

  /// Prep's arguments without chunks, records and A, for all value heads.
  [[nodiscard]] PrepArguments arguments(const KernelProblem& problem) const {
    PrepArguments p;
    p.q = data_of<BFloat16>(q);
    p.k = data_of<BFloat16>(k);
    p.g = g.raw();
    p.beta = beta.raw();
    p.g_f32 = g.dtype() == DType::f32;
    p.beta_f32 = beta.dtype() == DType::f32;
    p.A_log = data_of<float>(A_log);
    p.dt_bias = data_of<float>(dt_bias);
    p.gate = problem.gate;
    p.lower_bound = static_cast<float>(problem.lower_bound);
    p.l2norm = problem.l2norm;
    p.beta_sigmoid = problem.beta_sigmoid;
    p.beta_factor = static_cast<float>(problem.beta_factor);
    p.scale = static_cast<float>(problem.scale);
    p.H = static_cast<int>(problem.H);
    p.HV = static_cast<int>(problem.HV);
    p.heads = p.HV;
    return p;
  }
};

}  // namespace deltatape::cuda::kda::v1
