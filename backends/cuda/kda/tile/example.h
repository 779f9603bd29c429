// A worked kernel over the tile layer: y = softened(a b^T) for rows of bf16, two warps per block.
#pragma once

#include "backends/cuda/kda/tile/tile.h"

namespace deltatape::cuda::tile {

/// y[T,32] = a[T,64] b[32,64]^T, times 2^-|row sum of a|/64. Block x takes rows 32 x .. 32 x + 31, each warp 16 of
/// them.
struct ExampleProduct {
  struct Params {
    const BFloat16* a;  // [T,64]
    const BFloat16* b;  // [32,64]
    BFloat16* y;        // [T,32]
    int T;
  };
  static constexpr int kRows = 32;
  static constexpr int kDepth = 64;
  static constexpr int kCols = 32;

  // Fixed places in shared memory; y takes the place of a when a is no longer needed.
  using TileA = STile<BFloat16, kRows, kDepth, Swizzled>;
  using TileB = STile<BFloat16, kCols, kDepth, Swizzled>;
  using TileY = STile<BFloat16, kRows, kCols, Swizzled>;
  using Factors = SRow<float, kRows>;
  static constexpr int kA = 0;
  static constexpr int kB = kA + TileA::kBytes;
  static constexpr int kFactors = kB + TileB::kBytes;
  static constexpr int kY = kA;

  static constexpr int kWarps = 2;
  static constexpr int kBlocksPerSm = 1;
  static constexpr int kSharedBytes = kFactors + Factors::kBytes;

  DT_DEVICE void operator()(const Block& block, const Params& p) const {
    const auto a = block.shared<TileA>(kA);
    const auto b = block.shared<TileB>(kB);
    const auto factors = block.shared<Factors>(kFactors);
    const auto y = block.shared<TileY>(kY);
    const int first = block.x * kRows;
    const auto a_rows = GTile<const BFloat16>(p.a, kDepth, p.T, kDepth).from_row(first);
    const auto y_rows = GTile<BFloat16>(p.y, kCols, p.T, kCols).from_row(first);

    copy_async(block, a, a_rows);  // rows beyond the last become 0
    commit_copies();
    copy_async(block, b, GTile<const BFloat16>(p.b, kDepth, kCols, kDepth));
    commit_copies();
    wait_copies<1>();
    block.sync();
    block.each_warp(kRows, [&](int row) {
      const float sum = warp_sum([&](int lane) { return a(row, lane) + a(row, lane + kLanes); });
      one_lane([&] { factors.set(0, row, ex2(-fabsf(sum) / kDepth)); });
    });
    wait_copies<0>();
    block.sync();

    const int row = block.warp() * 16;
    Acc product[2] = {zeros(), zeros()};
    unroll<kDepth / 16>([&](auto k) {
      const FragA left = load_a(a, row, 16 * k);
      unroll<2>([&](auto n) { mma(product[n], left, load_b_trans(b, 16 * n, 16 * k)); });
    });
    block.sync();  // everybody has read a
    unroll<2>([&](auto n) {
      each(product[n], [&](int i, int, float& x) { x *= factors(0, row + i); });
      store(y, row, 16 * n, product[n]);
    });
    block.sync();
    store(block, y_rows, y);
  }
};

}  // namespace deltatape::cuda::tile
