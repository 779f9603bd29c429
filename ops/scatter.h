// Sums by index into zeros: the adjoints of gather and index_select, for the rules of other ops.
#pragma once

#include "core/tensor.h"

namespace deltatape {

/// Zeros of `shape` with src[.., i, ..] added at [.., index[.., i, ..], ..] along `dim`: scatter_add without the copy
/// of its first argument. `index` has src's shape; `dim` >= 0. Arguments are not checked. Differentiable in `src`.
Tensor scatter_into_zeros(const Shape& shape, int dim, const Tensor& index, const Tensor& src);

/// Zeros of `shape` with src's i-th entry along `dim` added at index[i]; `index` has rank 1; `dim` >= 0. Arguments are
/// not checked. Differentiable in `src`.
Tensor index_into_zeros(const Shape& shape, int dim, const Tensor& index, const Tensor& src);

}  // namespace deltatape
