// Segments of a sequence, worked on at once. What a segment does to a state is affine, S_end = M S_start + E, and to a
// gradient dS_start = M^T dS_end + F. So
//
//   1. SegmentScans finds E (F) of every segment, from zeros, and M, from the unit matrix without values;
//   2. SegmentMerge finds where segments start, one after the other;
//   3. the scans as they are run over segments as if they were sequences.
//
// A first segment begins (a last one ends) with what is known, so it needs no M. docs/cuda-kda-forward.md.
#pragma once

#include "backends/cuda/kda/tile/launch.h"
#include "backends/cuda/kda/v1/reverse_scan.h"

namespace deltatape::cuda::kda::v1 {

/// Three scans in one grid: blocks 0 .. end_blocks - 1 find states at ends, map_blocks behind them M, all others
/// gradients at starts.
struct SegmentArguments {
  ScanArguments ends;
  ScanArguments maps;  // no v, V = K; M[i][j] of channels i, j
  ReverseArguments starts;
  int end_blocks = 0;
  int map_blocks = 0;
};
template <int C, int K>
struct SegmentScans {
  using Params = SegmentArguments;
  using Shape = ScanShape<C, K, true, true>;
  static constexpr int kWarps = Shape::kMostWarps;
  static constexpr int kBlocksPerSm = 1;

  DT_DEVICE void operator()(const tile::Block& block, const Params& p) const {
    if (block.x < p.end_blocks) {
      ScanWarp<Shape>(block, block.x, p.ends).run();
    } else if (block.x < p.end_blocks + p.map_blocks) {
      ScanWarp<Shape>(block, block.x - p.end_blocks, p.maps).run();
    } else {
      ReverseWarp<Shape>(block, block.x - p.end_blocks - p.map_blocks, p.starts).run();
    }
  }
};

/// The segments of a sequence that is cut.
struct SegmentChain {
  int64_t first_state;  // number of the state that its second segment begins with
  int64_t first_end;    // number of the gradient at the end of its first
  int64_t maps;         // how many segments lie between the first and the last
  int64_t first_map;    // number of M of the second
};

/// Value heads [first_head, first_head + heads) of a launch. On entry `states` has E of segment p where segment p + 1
/// begins, and `gradients` F where segment p - 1 ends; on return what these begin and end with. The numbers of a
/// sequence follow one another.
struct MergeArguments {
  const SegmentChain* chains = nullptr;
  const float* maps = nullptr;  // [maps,HV,K,K]
  float* states = nullptr;      // [states,HV,K,V] ([..,V,K] with v_first)
  float* gradients = nullptr;   // likewise, or null; as many blocks again
  int count = 0;                // of chains
  int HV = 1;
  int V = 1;
  int first_head = 0;
  int heads = 1;
  bool v_first = false;
};

/// A block has 16 columns of one head's states, a warp 16 channels of each of them. Products are of tf32 in three
/// parts, as exact as f32: they carry the state over many segments, as sums in registers do inside of one.
template <int K>
struct SegmentMerge {
  using Params = MergeArguments;
  static constexpr int kTiles = K / 16;
  static constexpr int kWarps = kTiles;
  static constexpr int kBlocksPerSm = 1;
  using State = tile::STile<float, 16, K, tile::Strided<K + 8>>;  // transposed
  static constexpr int kSharedBytes = 2 * State::kBytes;          // of this turn and of the one before

  DT_DEVICE void operator()(const tile::Block& block, const Params& p) const {
    const int slices = p.V / 16;
    const int column = block.x % slices * 16;
    const int head = p.first_head + block.x / slices % p.heads;
    const int number = block.x / slices / p.heads;
    const bool reverse = number >= p.count;
    const SegmentChain chain = p.chains[reverse ? number - p.count : number];
    const int channel = 16 * block.warp();
    float* const states = (reverse ? p.gradients : p.states) + int64_t{head} * K * p.V;
    const float* const maps = p.maps + int64_t{head} * K * K;
    const int64_t step = reverse ? -1 : 1;
    const auto state = [&](int64_t i) { return states + i * p.HV * K * p.V; };
    int64_t at = reverse ? chain.first_end + chain.maps : chain.first_state;

    tile::Acc S[1];
    load_state_columns<K>(S, state(at), column, p.V, p.v_first, channel);
    for (int64_t i = 0; i < chain.maps; ++i) {
      const int64_t map = chain.first_map + (reverse ? chain.maps - 1 - i : i);
      tile::Acc M[kTiles];  // of the warp's channels of the result
      load_map(M, maps + map * p.HV * K * K, channel, reverse);
      const auto before = block.shared<State>(static_cast<int>(i % 2) * State::kBytes);
      tile::store(before, 0, channel, S[0]);
      at += step;
      load_state_columns<K>(S, state(at), column, p.V, p.v_first, channel);
      block.sync();
      add_product(S[0], before, M);
      store_state_columns<K>(S, state(at), column, p.V, p.v_first, channel);
    }
  }

 private:
  /// Rows `channel` .. of M, or of its transpose.
  DT_DEVICE static void load_map(tile::Acc (&M)[kTiles], const float* from, int channel, bool transposed) {
    const tile::GTile<const float> map(from, K, K, K);
    if (transposed) {
      tile::unroll<kTiles>(
          [&](auto c) { M[c] = tile::make_acc([&](int row, int col) { return map(16 * c + col, channel + row); }); });
    } else {
      tile::unroll<kTiles>([&](auto c) { M[c] = tile::load_acc(map, channel, 16 * c); });
    }
  }
  /// S^T += before M^T.
  DT_DEVICE static void add_product(tile::Acc& S, const State& before, tile::Acc (&M)[kTiles]) {
    tile::unroll<kTiles>([&](auto c) {
      const tile::Acc x = tile::load_acc(before, 0, 16 * c);
      const tile::TfA x_high = tile::as_tf_a(x);
      const tile::TfB m_high = tile::as_tf_b_trans(M[c]);
      tile::each(M[c], [&](int, int, float& m) { m -= std::bit_cast<float>(tile::tf32_bits(m)); });
      tile::mma(S, tile::rest_tf_a(x), m_high);
      tile::mma(S, x_high, tile::as_tf_b_trans(M[c]));
      tile::mma(S, x_high, m_high);
    });
  }
};

}  // namespace deltatape::cuda::kda::v1
