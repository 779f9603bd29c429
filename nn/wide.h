// 16 bits are a format of memory: what a module computes in between stays in f32 and is rounded once.
#pragma once

#include "ops/convert.h"

namespace deltatape::nn {

/// bf16 and f16 as f32, everything else (an undefined tensor included) as it is. Differentiable.
inline Tensor wide(const Tensor& x) {
  return x.defined() && (x.dtype() == DType::bf16 || x.dtype() == DType::f16) ? to(x, DType::f32) : x;
}

}  // namespace deltatape::nn
