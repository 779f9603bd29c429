// A shape as kernels see it that work along one dimension.
#pragma once

#include <cstdint>

#include "core/shape.h"

namespace deltatape {

/// A shape seen as [outer, size along dim, inner].
struct Slices {
  int64_t outer = 1;
  int64_t size = 1;
  int64_t inner = 1;
};
inline Slices slices_along(const Shape& shape, int dim) {
  Slices slices;
  for (int d = 0; d < shape.rank(); ++d) {
    (d < dim ? slices.outer : d == dim ? slices.size : slices.inner) *= shape[d];
  }
  return slices;
}

}  // namespace deltatape
