// The gated activation of transformer MLPs. Differentiable.
#pragma once

#include "core/tensor.h"

namespace deltatape {

/// silu(a) * b in one pass, and one for both gradients. a and b have one shape and one floating-point dtype; 16 bits
/// are computed with in f32. Source: Shazeer, "GLU Variants Improve Transformer", 2020.
Tensor swiglu(const Tensor& a, const Tensor& b);

}  // namespace deltatape
