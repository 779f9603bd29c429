// What the scans do to 16 columns of a state, or of its gradient, that a warp holds transposed: as sums of its tensor
// cores, S[c] for channels 16 c to 16 c + 15.
#pragma once

#include "backends/cuda/kda/tile/mma.h"

namespace deltatape::cuda::kda::v1 {

template <int n>
DT_DEVICE void clear_state(tile::Acc (&S)[n]) {
  tile::unroll<n>([&](auto c) { S[c] = tile::zeros(); });
}
/// Columns `column` .. of the unit matrix.
template <int n>
DT_DEVICE void make_unit_columns(tile::Acc (&S)[n], int column) {
  tile::unroll<n>([&](auto c) {
    S[c] = tile::make_acc([&](int row, int col) { return column + row == 16 * c + col ? 1.0F : 0.0F; });
  });
}

/// Columns `column` .. and channels `channel` .. of a state f32 [K,V] ([V,K] with v_first).
template <int K, int n>
DT_DEVICE void load_state_columns(tile::Acc (&S)[n], const float* from, int column, int V, bool v_first,
                                  int channel = 0) {
  if (v_first) {
    const tile::GTile<const float> state(from + int64_t{column} * K + channel, K, 16, 16 * n);
    tile::unroll<n>([&](auto c) { S[c] = tile::load_acc(state, 0, 16 * c); });
  } else {
    const tile::GTile<const float> state(from + int64_t{channel} * V + column, V, 16 * n, 16);
    tile::unroll<n>([&](auto c) { S[c] = tile::make_acc([&](int row, int col) { return state(16 * c + col, row); }); });
  }
}
template <int K, int n>
DT_DEVICE void store_state_columns(const tile::Acc (&S)[n], float* to, int column, int V, bool v_first,
                                   int channel = 0) {
  if (v_first) {
    const tile::GTile<float> state(to + int64_t{column} * K + channel, K, 16, 16 * n);
    tile::unroll<n>([&](auto c) { tile::store(state, 0, 16 * c, S[c]); });
  } else {
    const tile::GTile<float> state(to + int64_t{channel} * V + column, V, 16 * n, 16);
    tile::unroll<n>([&](auto c) {
      tile::each_lane([&](int lane) {
        tile::unroll<tile::Acc::kPerLane>([&](auto i) {
          const tile::Place at = tile::Acc::place(lane, i);
          state.set(16 * c + at.col, at.row, S[c].x(lane, i));
        });
      });
    });
  }
}

/// Every channel times its element of a row of K.
template <int n, class Row>
DT_DEVICE void decay_state(tile::Acc (&S)[n], const Row& decay) {
  tile::unroll<n>([&](auto c) {
    tile::each_lane([&](int lane) {
      tile::unroll<2>([&](auto half) {
        constexpr int kHalf = decltype(half)::value;
        const auto factor = decay.template read<2>(0, 16 * c + tile::Acc::place(lane, 4 * kHalf).col);
        tile::unroll<4>([&](auto i) { S[c].x(lane, 4 * kHalf + i) *= factor[i % 2]; });
      });
    });
  });
}

/// Stores a rounded tile at channel `channel` of `to` [16,K].
DT_DEVICE void store_rounded(const tile::GTile<BFloat16>& to, int channel, const tile::FragA& state) {
  tile::each_lane([&](int lane) {
    tile::unroll<4>([&](auto r) {
      const tile::Place at = tile::FragA::place(lane, 2 * r);
      to.template write_raw<2>(at.row, channel + at.col, std::bit_cast<tile::Values<BFloat16, 2>>(state.x(lane, r)));
    });
  });
}

}  // namespace deltatape::cuda::kda::v1
