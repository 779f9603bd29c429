// Every primitive of the tile layer in one kernel: that it compiles for every architecture, into the instructions it is
// meant to be. The kernel computes nothing of use.
#include "backends/cuda/kda/tile/example.h"

namespace deltatape::cuda::tile {
namespace {

struct Primitives {
  struct Params {
    const BFloat16* x;  // [T,64]
    const Float16* half;
    const float* f;  // [T,32]
    float* y;        // [T,64]
    BFloat16* record;
    int T;
  };
  using Tile = STile<BFloat16, 64, 64, Swizzled>;
  using Wide = STile<float, 64, 64, Strided<72>>;
  static constexpr int kTile = 0;
  static constexpr int kWide = kTile + 2 * Tile::kBytes;
  static constexpr int kPipe = kWide + Wide::kBytes;
  static constexpr int kWarps = 5;
  static constexpr int kBlocksPerSm = 1;
  static constexpr int kSharedBytes = kPipe + Pipe<2>::kBytes;

  DT_DEVICE void produce(const Block& block, Pipe<2>& pipe, const Params& p) const {
    for (int step = 0; step < p.T; step += 64) {
      const int slot = pipe.acquire(Tile::kBytes);
      const auto tile = block.shared<Tile>(kTile + slot * Tile::kBytes);
      pipe.load_raw(tile, p.record + step * 64);
      pipe.load_rows(tile.part<32>(0), GTile<const BFloat16>(p.x, 64, p.T, 64).from_row(step));
      pipe.commit();
    }
  }

  DT_DEVICE void consume(const Block& block, Pipe<2>& pipe, const Params& p) const {
    const Team team = block.team(1, 4, 1);
    const auto wide = block.shared<Wide>(kWide);
    Acc sum[4] = {zeros(), zeros(), zeros(), zeros()};
    for (int step = 0; step < p.T; step += 64) {
      const int slot = pipe.wait();
      const auto tile = block.shared<Tile>(kTile + slot * Tile::kBytes);
      const int row = team.warp() * 16;
      unroll<4>([&](auto k) {
        const FragA a = load_a(tile, row, 16 * k);
        const FragA turned = load_a_trans(tile, 16 * k, row);
        unroll<4>([&](auto n) {
          mma(sum[n], a, load_b(tile, 16 * k, 16 * n));
          mma(sum[n], turned, load_b_trans(tile, 16 * n, 16 * k));
        });
      });
      mma(sum[0], as_a(sum[1]), as_b_trans(sum[2]));
      mma(sum[0], as_a(sum[1]), as_b_trans(as_a(sum[3])));
      mma(sum[1], rest_tf_a(sum[2]), as_tf_b_trans(sum[3]));
      mma(sum[1], as_tf_a(sum[2]), make_tf_b([&](int i, int j) { return tile(i, j); }));
      mma_half<0>(sum[3], as_a(sum[1]), make_b([&](int i, int j) { return tile(i, j); }));
      unroll<4>([&](auto n) { store(wide, row, 16 * n, sum[n]); });
      store(tile, row, 0, as_a(sum[0]));
      pipe.release(true);
      team.sync();
      mma(sum[2], load_tf_a(wide, row, 0), load_tf_b(wide, 0, 16));
      RowVec rows;
      fill(rows, 0.0F);
      add_rows(rows, sum[0], [](int, int, float x) { return x * x; });
      finish(rows);
      each(rows, [](int, float& x) { x = rsqrt(x + 1e-6F); });
      each(sum[0], rows, [](int, int, float& x, float& r) { x *= r * sigmoid(x) * rcp(x + 2.0F) + lg2(x * x); });
      ColVec cols;
      fill(cols, 0.0F);
      add_cols(cols, sum[0], [](int, int, float x) { return softplus(x); });
      finish(cols);
      each(sum[1], cols, [](int, int, float& x, float& c) { x += c; });
      team.sync();
    }
    unroll<4>([&](auto n) { store(GTile<float>(p.y, 64, p.T, 64), team.warp() * 16, 16 * n, sum[n]); });
  }

  DT_DEVICE void operator()(const Block& block, const Params& p) const {
    Pipe<2> pipe(block, kPipe, 4);
    block.sync();
    if (block.warp() == 0) {
      produce(block, pipe, p);
    } else {
      consume(block, pipe, p);
    }
    block.sync();
    const auto wide = block.shared<Wide>(kWide);
    const GTile<const Float16> half(p.half, 64, p.T, 64);
    const float sum = warp_sum([&](int lane) { return wide(block.warp(), lane) + half(block.warp(), lane); });
    one_lane([&] { p.y[block.warp()] = sum; });
  }
};

}  // namespace

void launch_primitives(const Primitives::Params& params, const Stream& stream) {
  launch_warps<Primitives>(stream, Grid{1}, params);
}
void launch_example(const ExampleProduct::Params& params, int blocks, const Stream& stream) {
  launch_warps<ExampleProduct>(stream, Grid{blocks}, params);
}

}  // namespace deltatape::cuda::tile
