// Products and triangular systems. All differentiable.
#pragma once

#include "core/tensor.h"

namespace deltatape {

/// Matrix product. a [.., M, K] with b [.., K, N] gives [.., M, N]; leading dimensions broadcast. A rank-1 argument is
/// a row (for a) or a column (for b), and its dimension disappears from the result. Dtypes promote; floating point
/// only.
Tensor matmul(const Tensor& a, const Tensor& b);
/// X with A X = B. A [.., M, M] triangular: only the lower (or upper) triangle is read, and with `unit_diagonal` the
/// diagonal counts as ones. B [.., M, N]; leading dimensions broadcast. The gradient of A lies in that triangle alone.
Tensor solve_triangular(const Tensor& a, const Tensor& b, bool lower = true, bool unit_diagonal = false);
/// x [.., M, N] with zeros above (tril) or below (triu) the given diagonal: 0 is the main one, positive is above it.
Tensor tril(const Tensor& x, int64_t diagonal = 0);
Tensor triu(const Tensor& x, int64_t diagonal = 0);

}  // namespace deltatape
