// Small algorithms that several kernels share.
#pragma once

#include "backends/cuda/kda/tile/block.h"

namespace deltatape::cuda::tile {

/// Inverts unit lower triangular blocks of 16 x 16 by forward substitution in f32, one column per lane, two blocks per
/// warp: block b has its strictly lower part at (first[b], first[b]) of `m` (the diagonal counts as 1, what is above it
/// is not read); the inverse, with its diagonal and zeros above, goes to the same place of `a`, which may be `m`.
/// `count` is 1 or 2. Code of one warp; sync_warp before where other lanes wrote `m`, and after where other lanes read
/// `a`.
template <class In, class Out>
DT_DEVICE void invert_unit_lower16(const In& m, const Out& a, Values<int, 2> first, int count = 2) {
  PerLane<float, 16> x;
  each_lane([&](int lane) {
    if (lane / 16 < count) {
      const int at = lane < 16 ? first[0] : first[1];
      unroll<16>([&](auto row) {
        constexpr int kRow = decltype(row)::value;
        float sum = kRow == lane % 16 ? 1.0F : 0.0F;
        unroll<kRow>([&](auto j) { sum -= m(at + kRow, at + j) * x(lane, j); });
        x(lane, kRow) = sum;
      });
    }
  });
  sync_warp();
  each_lane([&](int lane) {
    if (lane / 16 < count) {
      const int at = lane < 16 ? first[0] : first[1];
      unroll<16>([&](auto row) { a.set(at + row, at + lane % 16, x(lane, row)); });
    }
  });
}

/// Inclusive sums down the columns of a tile: segments of 16 rows are summed by a lane each, then the totals of the
/// segments above are added, first to last. x(row, col) on entry is the summand. `totals` has a row per segment. The
/// order of the additions does not depend on the team. Syncs the team before it returns, and expects `x` to be visible.
template <class Tile, class Totals>
DT_DEVICE void sum_columns(const Team& team, const Tile& x, const Totals& totals) {
  constexpr int kSegment = 16;
  constexpr int kSegments = Tile::kRows / kSegment;
  static_assert(kSegments * kSegment == Tile::kRows && Totals::kRows >= kSegments && Totals::kCols >= Tile::kCols);
  team.each(kSegments * Tile::kCols, [&](int i) {
    const int segment = i / Tile::kCols;
    const int col = i % Tile::kCols;
    float sum = 0.0F;
    unroll<kSegment>([&](auto r) {
      sum += x(segment * kSegment + r, col);
      x.set(segment * kSegment + r, col, sum);
    });
    totals.set(segment, col, sum);
  });
  team.sync();
  team.each(kSegments * Tile::kCols, [&](int i) {
    const int segment = i / Tile::kCols;
    const int col = i % Tile::kCols;
    float before = 0.0F;
    for (int s = 0; s < segment; ++s) {
      before += totals(s, col);
    }
    unroll<kSegment>([&](auto r) {
      x.set(segment * kSegment + r, col, segment == 0 ? x(r, col) : x(segment * kSegment + r, col) + before);
    });
  });
  team.sync();
}

/// f(row, sum) for each row of a tile, in one lane, with the sum over columns of g(row, col, x). A row belongs to one
/// warp of the team; lanes take every 32nd column, then a fixed tree.
template <class Tile, class G, class F>
DT_DEVICE void reduce_rows(const Team& team, const Tile& tile, G&& g, F&& f) {
  team.each_warp(Tile::kRows, [&](int row) {
    const float sum = warp_sum([&](int lane) {
      float part = 0.0F;
      for (int col = lane; col < Tile::kCols; col += kLanes) {
        part += g(row, col, tile(row, col));
      }
      return part;
    });
    one_lane([&] { f(row, sum); });
  });
}

}  // namespace deltatape::cuda::tile
