// Reading and writing by index. Indices are i64 or i32 and count from 0; an index out of range is an Error. All are
// differentiable in their floating-point arguments. Sums over equal indices run in a fixed order.
#pragma once

#include "core/tensor.h"

namespace deltatape {

/// out[.., i, ..] = x[.., index[.., i, ..], ..] along `dim`. `index` has x's rank; its other sizes equal x's.
Tensor gather(const Tensor& x, int64_t dim, const Tensor& index);
/// x with src[.., i, ..] added at [.., index[.., i, ..], ..] along `dim`. `src` has index's shape.
Tensor scatter_add(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& src);
/// The entries index[0], index[1], ... along `dim`; `index` has rank 1.
Tensor index_select(const Tensor& x, int64_t dim, const Tensor& index);
/// x with src's i-th entry added at index[i] along `dim`; `index` has rank 1, src's size along `dim` is its length.
Tensor index_add(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& src);
/// [..., count] with 1 at the index and 0 elsewhere.
Tensor one_hot(const Tensor& index, int64_t count, DType dtype = DType::f32);
/// Rows of `weight` [N, D] by `index` [...]: [..., D].
Tensor embedding(const Tensor& weight, const Tensor& index);

/// The k largest entries along the last dimension, largest first (ties: lower index first).
struct TopK {
  Tensor values;
  Tensor indices;  // i64
};
TopK topk(const Tensor& x, int64_t k);

}  // namespace deltatape
