// The verdict on one tensor.
#pragma once

#include "harness/judge/expectation.h"
#include "harness/judge/measure.h"

namespace deltatape::harness {

/// Holds `x` against what is expected in a case of this dtype. With b = composed error + conditioning + unit roundoff,
/// all relative to the largest element of the reference:
///
///   fine           error <= 8 b (2 b in 16 bits), or within 16 (1/8) unit roundoffs of Expected::scale, or below what
///   the
///                  dtype can tell from 0
///   less accurate  error <= min(300 b, 0.03) (f32: 2^15 times the conditioning, too, four times what
///                  operands in TF32 come to), and at least twice the limit of fine
///   wrong          else; also what is missing, has another shape, or is not finite
Judgement judge(const Expected& expected, const Tensor& x, DType dtype, const Layout& layout);

}  // namespace deltatape::harness
