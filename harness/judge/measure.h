// How far a tensor is from its reference, and where.
#pragma once

#include "harness/operator.h"
#include "harness/report/report.h"

namespace deltatape::harness {

/// Where the elements of a tensor stand, for `worst` and the errors by time, row and channel.
struct Layout {
  std::vector<std::string> dimensions = {};  // in words; fewer than the rank: `dimension 2`
  std::vector<TokenPlace> tokens = {};       // where the first two are batch and time; may be empty
};

/// `x` and `reference` have the same shape; both on the host. Without elements all errors are 0. An error relative to
/// a reference of zeros is 0 for zeros, else infinite, unless |x| is below the smallest normal number of `dtype`.
Measure measure(const Tensor& x, const Tensor& reference, DType dtype, const Layout& layout);

/// The largest error per time within its sequence and channel (the last dimension); for tensors whose first two
/// dimensions are batch and time, else the leading dimensions are one `time`.
ErrorMap error_map(const std::string& tensor, const Tensor& x, const Tensor& reference, const Layout& layout);

}  // namespace deltatape::harness
