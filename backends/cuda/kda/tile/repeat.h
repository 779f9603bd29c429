// Loops that stay loops.
#pragma once

#include "backends/cuda/kda/tile/target.h"

namespace deltatape::cuda::tile {

/// f(0) .. f(n - 1), never unrolled: in straight-line code of thousands of instructions ptxas begins loads too early
/// for the registers there are.
template <int n, class F>
DT_DEVICE void repeat(F&& f) {
#ifdef __CUDACC__
#pragma unroll 1
#endif
  for (int i = 0; i < n; ++i) {
    f(i);
  }
}

}  // namespace deltatape::cuda::tile
