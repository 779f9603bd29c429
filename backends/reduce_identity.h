// What a reduction of nothing gives.
#pragma once

#include <limits>

#include "backends/backend.h"

namespace deltatape {

/// 0, 1 and the infinity that any number beats: `kind` of it and x is x.
inline double identity_of(ReduceKind kind) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  switch (kind) {
    case ReduceKind::sum:
      return 0.0;
    case ReduceKind::prod:
      return 1.0;
    case ReduceKind::max:
      return -kInfinity;
    case ReduceKind::min:
      break;
  }
  return kInfinity;
}

}  // namespace deltatape
