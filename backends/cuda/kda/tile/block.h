// The block that a kernel body runs in, its warps, and work split over them.
#pragma once

#include "backends/cuda/kda/tile/lanes.h"
#include "backends/cuda/kda/tile/shared.h"

#ifdef __CUDACC__
#include "backends/cuda/kda/tile/device/block.h"
#else
#include "backends/cuda/kda/tile/host/block.h"
#endif

namespace deltatape::cuda::tile {

/// Neighbouring warps that work together. `barrier` is a number of its own, 1 to 15, for every team that meets while
/// others do (0 is the whole block); a team of one warp needs none.
class Team {
 public:
  DT_DEVICE Team(int first_warp, int warps, int barrier) : first_warp_(first_warp), warps_(warps), barrier_(barrier) {}

  [[nodiscard]] DT_DEVICE int warps() const { return warps_; }
  [[nodiscard]] DT_DEVICE int lanes() const { return warps_ * kLanes; }
  /// The number of the calling warp in the team.
  [[nodiscard]] DT_DEVICE int warp() const { return warp_of_block() - first_warp_; }
  [[nodiscard]] DT_DEVICE bool contains_me() const { return warp() >= 0 && warp() < warps_; }

  /// f(i) for i = 0 .. n - 1, split over the lanes of the team: neighbours go to neighbouring lanes. Per-lane code.
  template <class F>
  DT_DEVICE void each(int n, F&& f) const {
    check_member(*this);
    each_lane([&](int lane) {
      for (int i = warp() * kLanes + lane; i < n; i += lanes()) {
        f(i);
      }
    });
  }
  /// f(i) for i = 0 .. n - 1, split over the warps of the team: warp w takes w, w + warps() .. Code of a whole warp.
  template <class F>
  DT_DEVICE void each_warp(int n, F&& f) const {
    check_member(*this);
    for (int i = warp(); i < n; i += warps_) {
      f(i);
    }
  }
  /// Writes f(row, col) to every element of a tile in shared memory.
  template <class Tile, class F>
  DT_DEVICE void fill(const Tile& tile, F&& f) const {
    each(Tile::kRows * Tile::kCols,
         [&](int i) { tile.set(i / Tile::kCols, i % Tile::kCols, f(i / Tile::kCols, i % Tile::kCols)); });
  }

  /// All warps of the team meet: what they did to memory before, all may rely on after.
  DT_DEVICE void sync(cuda::Place where = cuda::Place::here()) const {
    check_member(*this);
    if (warps_ == 1) {
      sync_warp();
    } else {
      meet(barrier_, warps_, where);
    }
  }

 private:
  int first_warp_;
  int warps_;
  int barrier_;
};

/// All warps of a block: `block.x` and its kin say which. A kernel body gets one.
class Block : public Team {
 public:
  /// `warps` as a constant lets loops over the block be unrolled.
  DT_DEVICE Block(BlockIndex index, int warps) : Team(0, warps, 0), x(index.x), y(index.y), z(index.z) {}

  int x;
  int y;
  int z;

  /// The view at `offset` bytes (a multiple of 16) of the block's shared memory.
  template <class Tile>
  [[nodiscard]] DT_DEVICE Tile shared(int offset) const {
    return Tile(shared_memory<typename Tile::Element>(offset, Tile::kBytes));
  }
  /// The calling warp alone.
  [[nodiscard]] DT_DEVICE Team this_warp() const { return Team(warp(), 1, 0); }
  /// Warps first .. first + count - 1, with a barrier of their own.
  [[nodiscard]] DT_DEVICE Team team(int first, int count, int barrier) const { return Team(first, count, barrier); }
};

}  // namespace deltatape::cuda::tile
