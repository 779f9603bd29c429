// A lane is a thread.
#pragma once

#include "backends/cuda/kda/tile/target.h"

namespace deltatape::cuda::tile {

/// `n` values of each lane, in registers: x(lane, i). Not initialised.
template <class T, int n = 1>
class PerLane {
 public:
  DT_DEVICE T& operator()(int /*lane*/, int i = 0) { return x_[i]; }
  DT_DEVICE const T& operator()(int /*lane*/, int i = 0) const { return x_[i]; }

 private:
  T x_[n];
};

DT_DEVICE int lane_id() { return static_cast<int>(threadIdx.x % kLanes); }

/// f(lane) for every lane of the warp. Inside, only what belongs to the lane, global and shared memory may be touched;
/// nothing that needs the other lanes.
template <class F>
DT_DEVICE void each_lane(F&& f) {
  f(lane_id());
}

/// f() in one lane.
template <class F>
DT_DEVICE void one_lane(F&& f) {
  if (lane_id() == 0) {
    f();
  }
}

/// Orders the lanes' accesses to memory: what one wrote or read before, another may read or write after.
DT_DEVICE void sync_warp() { __syncwarp(); }

/// x of lane ^ bit; of lane - distance (itself for the first lanes); of lane `from(lane)`.
template <class T, int n>
DT_DEVICE PerLane<T, n> shuffle_xor(const PerLane<T, n>& x, int bit) {
  PerLane<T, n> y;
  unroll<n>([&](auto i) { y(0, i) = __shfl_xor_sync(0xffffffffU, x(0, i), bit); });
  return y;
}
template <class T, int n, class F>
DT_DEVICE PerLane<T, n> shuffle(const PerLane<T, n>& x, F&& from) {
  PerLane<T, n> y;
  const int source = from(lane_id());
  unroll<n>([&](auto i) { y(0, i) = __shfl_sync(0xffffffffU, x(0, i), source); });
  return y;
}

/// The value of one lane, for all.
template <class T>
DT_DEVICE T broadcast(const PerLane<T>& x, int lane) {
  return __shfl_sync(0xffffffffU, x(0), lane);
}
/// A value that is the same in all lanes.
template <class T>
DT_DEVICE T uniform(const PerLane<T>& x) {
  return x(0);
}

}  // namespace deltatape::cuda::tile
