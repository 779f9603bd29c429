// What every lane of a warp has for itself, and what lanes tell each other.
#pragma once

#include "backends/cuda/kda/tile/numbers.h"
#include "backends/cuda/kda/tile/target.h"

#ifdef __CUDACC__
#include "backends/cuda/kda/tile/device/lanes.h"
#else
#include "backends/cuda/kda/tile/host/lanes.h"
#endif

namespace deltatape::cuda::tile {

/// Sum over the lanes whose numbers differ in the bits of `mask`, known to all of them. A fixed tree: nearest first.
template <class T, int n>
DT_DEVICE void sum_lanes(PerLane<T, n>& x, int mask) {
  for (int bit = 1; bit < kLanes; bit *= 2) {
    if ((mask & bit) != 0) {
      const PerLane<T, n> other = shuffle_xor(x, bit);
      each_lane([&](int lane) { unroll<n>([&](auto i) { x(lane, i) += other(lane, i); }); });
    }
  }
}

/// Sum of f(lane) over the warp, the same in all lanes.
template <class F>
DT_DEVICE float warp_sum(F&& f) {
  PerLane<float> x;
  each_lane([&](int lane) { x(lane) = f(lane); });
  sum_lanes(x, kLanes - 1);
  return uniform(x);
}

}  // namespace deltatape::cuda::tile
