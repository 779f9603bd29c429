// A tensor behind a recorded identity.
#pragma once

#include "core/tensor.h"

namespace deltatape {

/// `x` as the output of a node of its own: a gradient taken there stays apart from other uses of x, and can be
/// differentiated further. Shares x's memory; an undefined x gives an undefined tensor.
Tensor alias(const Tensor& x);

}  // namespace deltatape
