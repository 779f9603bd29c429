// Who vouches for the reference: other algorithms, and differences that know nothing of derivatives.
#pragma once

#include <vector>

#include "harness/operator.h"
#include "harness/report/report.h"

namespace deltatape::harness {

/// The reference's outputs and gradients in f64 on one case, held against
///   - the other algorithm, where the reference has one: within 1e-9 of the largest element of each tensor, and
///   - central differences of `forward` along a random direction per input: within 1e-5 (autograd/gradcheck.h),
///     and the rounding of the loss over the step of the differences.
/// Rows are named after witness and tensor. Forward-mode products are not among them: the tape has reverse mode only,
/// and a product that is taken from its second derivative would agree by construction.
std::vector<WitnessReport> compare_witnesses(const Reference& reference, const Case& c, const std::string& text);

}  // namespace deltatape::harness
