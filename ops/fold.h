// The adjoint of unfold, for its rule.
#pragma once

#include "core/tensor.h"

namespace deltatape {

/// Sums windows where they came from: x [.., N, .., size] as unfold makes it from a dimension `dim` of `length`
/// entries with windows `step` apart; the result has `length` in place of N and no last dimension. Differentiable.
Tensor fold(const Tensor& x, int64_t dim, int64_t length, int64_t step);

}  // namespace deltatape
