// The host twin of device/lanes.h: all 32 lanes, one after the other.
#pragma once

#include <array>
#include <bit>
#include <cstring>
#include <limits>

#include "backends/cuda/kda/tile/host/machine.h"
#include "backends/cuda/kda/tile/target.h"

namespace deltatape::cuda::tile {

/// Starts out as NaN, since registers start out as anything.
template <class T, int n = 1>
class PerLane {
 public:
  PerLane() { std::memset(static_cast<void*>(x_.data()), 0xff, sizeof(x_)); }
  T& operator()(int lane, int i = 0) { return x_[at(lane, i)]; }
  const T& operator()(int lane, int i = 0) const { return x_[at(lane, i)]; }

 private:
  static size_t at(int lane, int i) {
    check(lane >= 0 && lane < kLanes && i >= 0 && i < n, "tile", "value {} of lane {} is used, expected less than {}",
          i, lane, n);
    return static_cast<size_t>(lane) * n + static_cast<size_t>(i);
  }
  std::array<T, static_cast<size_t>(kLanes* n)> x_;
};

template <class F>
void each_lane(F&& f) {
  host::Machine& machine = host::Machine::get();
  machine.check_whole_warp("each_lane");
  for (int lane = 0; lane < kLanes; ++lane) {
    machine.set_lane(lane);
    f(lane);
  }
  machine.set_lane(host::kWholeWarp);
}

template <class F>
void one_lane(F&& f) {
  each_lane([&](int lane) {
    if (lane == 0) {
      f();
    }
  });
}

inline void sync_warp() { host::Machine::get().sync_lanes(); }

template <class T, int n, class F>
PerLane<T, n> shuffle(const PerLane<T, n>& x, F&& from) {
  host::Machine::get().check_whole_warp("shuffle");
  PerLane<T, n> y;
  each_lane([&](int lane) {
    const int source = from(lane) & (kLanes - 1);
    for (int i = 0; i < n; ++i) {
      y(lane, i) = x(source, i);
    }
  });
  return y;
}
template <class T, int n>
PerLane<T, n> shuffle_xor(const PerLane<T, n>& x, int bit) {
  return shuffle(x, [bit](int lane) { return lane ^ bit; });
}

template <class T>
T broadcast(const PerLane<T>& x, int lane) {
  host::Machine::get().check_whole_warp("broadcast");
  return x(lane);
}
template <class T>
T uniform(const PerLane<T>& x) {
  using Bits = std::array<std::byte, sizeof(T)>;  // NaN is the same as NaN
  for (int lane = 1; lane < kLanes; ++lane) {
    check(std::bit_cast<Bits>(x(lane)) == std::bit_cast<Bits>(x(0)), "tile", "uniform: lanes 0 and {} differ", lane);
  }
  return x(0);
}

}  // namespace deltatape::cuda::tile
