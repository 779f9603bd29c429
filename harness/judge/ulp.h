// Distances in units in the last place.
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace deltatape::harness {

/// How many representable numbers of the floating-point type `dtype` lie between `a` and `b`, both rounded to it, one
/// of them counted: 1 for neighbours, across zero as well. INT64_MAX when int64_t cannot hold it.
int64_t ulp_distance(double a, double b, DType dtype);

}  // namespace deltatape::harness
