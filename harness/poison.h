// Inputs for candidates that run in this process: every tensor in the middle of a buffer of poison.
#pragma once

#include "harness/case.h"

namespace deltatape::harness {

/// The same case; every tensor is dense and stands between NaN (integers: their smallest value), so that what is read
/// before or behind it shows in the results.
Case among_poison(const Case& c);

/// The name of an input or upstream gradient whose bits differ between the two; empty when all are the same.
std::string changed_tensor(const Case& before, const Case& after);

}  // namespace deltatape::harness
