// The same numbers in another dtype, memory layout or block of memory. All differentiable.
#pragma once

#include "core/tensor.h"

namespace deltatape {

/// `x` in another dtype (rounded to nearest even); `x` itself when it has it. The gradient comes back in x's dtype.
Tensor to(const Tensor& x, DType dtype);
/// `x` on another device; `x` itself when it is there.
Tensor to(const Tensor& x, Device device);
/// `x` itself when its elements lie densely in row-major order, else a dense copy.
Tensor contiguous(const Tensor& x);
/// A dense copy in memory of its own.
Tensor clone(const Tensor& x);

}  // namespace deltatape
