// The one piece of arithmetic the engine needs: the sum of two gradients.
#pragma once

#include "core/tensor.h"

namespace deltatape {

/// sum + term. `sum` is undefined at the start. Nobody else sees `sum`, unless its memory is shared: then, and when
/// `recorded` (the addition becomes part of the tape), the result has memory of its own.
Tensor add_gradients(Tensor sum, const Tensor& term, bool recorded);

/// The accumulated gradient of a leaf after `term` is added. What the leaf holds is never shared with another tensor
/// of the pass; an earlier gradient is added to in place unless `recorded`.
Tensor add_to_gradient(Tensor gradient, const Tensor& term, bool recorded);

}  // namespace deltatape
