// Products of fragments, and their way from and to shared and global memory.
#pragma once

#include "backends/cuda/kda/tile/fragments.h"
#include "backends/cuda/kda/tile/global.h"
#include "backends/cuda/kda/tile/shared.h"

#ifdef __CUDACC__
#include "backends/cuda/kda/tile/device/mma.h"
#else
#include "backends/cuda/kda/tile/host/mma.h"
#endif

namespace deltatape::cuda::tile {

/// Columns 8 half to 8 half + 7 of d += a b.
template <int half>
DT_DEVICE void mma_half(Acc& d, const FragA& a, const FragB& b) {
  mma_m16n8k16<half>(d.x, a.x, b.x);
}
/// d += a b.
DT_DEVICE void mma(Acc& d, const FragA& a, const FragB& b) {
  mma_half<0>(d, a, b);
  mma_half<1>(d, a, b);
}
DT_DEVICE void mma(Acc& d, const TfA& a, const TfB& b) {
  unroll<2>([&](auto step) {
    mma_m16n8k8<step, 0>(d.x, a.x, b.x);
    mma_m16n8k8<step, 1>(d.x, a.x, b.x);
  });
}

/// The 16 x 16 elements of a bf16 tile from (row, col) on, multiples of 16 and 8, as the left operand A = X or the
/// right operand B = X. With `_trans` the operand is the transpose of those elements.
template <class Tile>
DT_DEVICE FragA load_a(const Tile& tile, int row, int col) {
  FragA a;
  ldmatrix<false>(a.x, [&](int lane) { return tile.at(row + lane % 16, col + lane / 16 * 8); });
  return a;
}
template <class Tile>
DT_DEVICE FragA load_a_trans(const Tile& tile, int row, int col) {
  FragA a;
  ldmatrix<true>(a.x, [&](int lane) { return tile.at(row + lane % 8 + lane / 16 * 8, col + lane / 8 % 2 * 8); });
  return a;
}
template <class Tile>
DT_DEVICE FragB load_b(const Tile& tile, int row, int col) {
  FragB b;
  ldmatrix<true>(b.x, [&](int lane) { return tile.at(row + lane % 16, col + lane / 16 * 8); });
  return b;
}
template <class Tile>
DT_DEVICE FragB load_b_trans(const Tile& tile, int row, int col) {
  FragB b;
  ldmatrix<false>(b.x, [&](int lane) { return tile.at(row + lane % 8 + lane / 16 * 8, col + lane / 8 % 2 * 8); });
  return b;
}

/// The same from an f32 tile, rounded to tf32. Strides of 8 mod 32 words have the fewest bank conflicts.
template <class Tile>
DT_DEVICE TfA load_tf_a(const Tile& tile, int row, int col) {
  return make_tf_a([&](int i, int k) { return tile(row + i, col + k); });
}
template <class Tile>
DT_DEVICE TfB load_tf_b(const Tile& tile, int row, int col) {
  return make_tf_b([&](int k, int j) { return tile(row + k, col + j); });
}

/// f(row, col of the first, pair) for every two neighbours of a row.
template <class F>
DT_DEVICE void each_pair(const Acc& t, F&& f) {
  each_lane([&](int lane) {
    unroll<4>([&](auto r) {
      const Place at = Acc::place(lane, 2 * r);
      f(at.row, at.col, Values<float, 2>{{t.x(lane, 2 * r), t.x(lane, 2 * r + 1)}});
    });
  });
}

/// The 16 x 16 elements of a tile (f32, or rounded to bf16 or f16) from (row, col) on.
template <class Tile>
DT_DEVICE Acc load_acc(const Tile& tile, int row, int col) {
  Acc t;
  each_lane([&](int lane) {
    unroll<4>([&](auto r) {
      const Place at = Acc::place(lane, 2 * r);
      const auto pair = tile.template read<2>(row + at.row, col + at.col);
      t.x(lane, 2 * r) = pair[0];
      t.x(lane, 2 * r + 1) = pair[1];
    });
  });
  return t;
}
template <class T, int rows, int cols, class Layout>
DT_DEVICE void store(const STile<T, rows, cols, Layout>& tile, int row, int col, const Acc& t) {
  each_pair(t, [&](int i, int j, const Values<float, 2>& pair) { tile.template write<2>(row + i, col + j, pair); });
}
/// Its transpose: element (i, j) goes to (row + j, col + i).
template <class T, int rows, int cols, class Layout>
DT_DEVICE void store_trans(const STile<T, rows, cols, Layout>& tile, int row, int col, const Acc& t) {
  each_lane([&](int lane) {
    unroll<Acc::kPerLane>([&](auto i) {
      const Place at = Acc::place(lane, i);
      tile.set(row + at.col, col + at.row, t.x(lane, i));
    });
  });
}
/// Operands as they are, bf16.
template <class Tile>
DT_DEVICE void store(const Tile& tile, int row, int col, const FragA& a) {
  each_lane([&](int lane) {
    unroll<4>([&](auto r) {
      const Place at = FragA::place(lane, 2 * r);
      tile.write_raw(row + at.row, col + at.col, std::bit_cast<Values<BFloat16, 2>>(a.x(lane, r)));
    });
  });
}
/// To global memory; rows beyond the last are left out. Addresses of pairs must be aligned.
template <class T>
DT_DEVICE void store(const GTile<T>& tile, int row, int col, const Acc& t) {
  each_pair(t, [&](int i, int j, const Values<float, 2>& pair) {
    if (row + i < tile.rows()) {
      tile.template write<2>(row + i, col + j, pair);
    }
  });
}
/// From global memory; rows beyond the last are 0.
template <class T>
DT_DEVICE Acc load_acc(const GTile<T>& tile, int row, int col) {
  Acc t;
  each_lane([&](int lane) {
    unroll<4>([&](auto r) {
      const Place at = Acc::place(lane, 2 * r);
      Values<float, 2> pair{{0.0F, 0.0F}};
      if (row + at.row < tile.rows()) {
        pair = tile.template read<2>(row + at.row, col + at.col);
      }
      t.x(lane, 2 * r) = pair[0];
      t.x(lane, 2 * r + 1) = pair[1];
    });
  });
  return t;
}

}  // namespace deltatape::cuda::tile
