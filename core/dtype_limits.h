// What numbers a dtype holds.
#pragma once

#include <limits>

#include "core/dtype.h"

namespace deltatape {

/// The largest finite number of a floating-point dtype; that of f64 for any other.
inline double largest_number(DType dtype) {
  switch (dtype) {
    case DType::f16:
      return 65504.0;
    case DType::bf16:
      return 0x1.FEp127;
    case DType::f32:
      return static_cast<double>(std::numeric_limits<float>::max());
    default:
      return std::numeric_limits<double>::max();
  }
}

}  // namespace deltatape
