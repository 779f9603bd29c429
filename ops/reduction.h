// Sums and other summaries along dimensions. Negative dimensions count from the end. `keepdim` leaves a size of 1 in
// place of each reduced dimension. All but argmax/argmin are differentiable.
#pragma once

#include "core/tensor.h"

namespace deltatape {

/// Sum of all elements (rank 0), or over `dims` (distinct). Integers and bool give i64.
Tensor sum(const Tensor& x);
Tensor sum(const Tensor& x, const Shape& dims, bool keepdim = false);
/// Mean of all elements, or over `dims`. NaN over nothing.
Tensor mean(const Tensor& x);
Tensor mean(const Tensor& x, const Shape& dims, bool keepdim = false);
/// Mean squared distance from the mean over `dims`, times n / (n - correction); NaN when n <= correction.
Tensor var(const Tensor& x, const Shape& dims, int64_t correction = 1, bool keepdim = false);
/// Product over one dimension.
Tensor prod(const Tensor& x, int64_t dim, bool keepdim = false);
/// Largest (smallest) over one dimension of size > 0; NaN wins. The gradient goes to the first such entry.
Tensor max(const Tensor& x, int64_t dim, bool keepdim = false);
Tensor min(const Tensor& x, int64_t dim, bool keepdim = false);
/// Over all elements, rank 0.
Tensor max(const Tensor& x);
Tensor min(const Tensor& x);
/// Index (i64) of the first largest (smallest) entry along a dimension of size > 0.
Tensor argmax(const Tensor& x, int64_t dim, bool keepdim = false);
Tensor argmin(const Tensor& x, int64_t dim, bool keepdim = false);
/// log(sum(exp(x))) over one dimension, without overflow; -inf over nothing.
Tensor logsumexp(const Tensor& x, int64_t dim, bool keepdim = false);
/// Inclusive cumulative sum along `dim`; from the end when `reverse`. Integers and bool give i64.
Tensor cumsum(const Tensor& x, int64_t dim, bool reverse = false);
/// sqrt(sum of squares) of all elements, rank 0; gradient 0 at 0.
Tensor norm(const Tensor& x);

}  // namespace deltatape
