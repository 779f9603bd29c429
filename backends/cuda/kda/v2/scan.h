// The scan on Hopper: v1's, with wgmma in place of mma.sync and bulk copies in place of copies by all warps. One block
// per sequence, value head and slice of V.
//
// A warpgroup holds 64 rows of S^T [V,K] as sums from the first chunk to the last. With SA the state rounded to bf16,
// per chunk, in the order in which products are begun:
//
//   U^T = (beta v)^T A^T + SA (-w)^T          what the chunk writes, v_new
//   O^T = SA qg^T                             while U^T is rounded
//   S^T = S^T 2^G_last + U^T kg
//   O^T += U^T Aqk^T                          while the next chunk's SA is made
//
// S^T is scaled before the first product, and nothing touches sums of products under way: otherwise the compiler makes
// products wait for one another. The output of a chunk leaves while the next chunk's U^T is under way.
#pragma once

#include "backends/cuda/kda/tile/launch.h"
#include "backends/cuda/kda/tile/mma.h"
#include "backends/cuda/kda/tile/wgmma.h"
#include "backends/cuda/kda/v1/scan.h"
#include "backends/cuda/kda/v2/stage.h"

namespace deltatape::cuda::kda::v2 {

using v1::ScanArguments;  // `stages` is not used, and a block takes V / slices rows

/// Where a warp of a scan is: its head, its sequence, and for consumers their columns of V.
struct ScanPlace {
  /// `number` is that of the block among those of its scan.
  template <class Shape, class Arguments>
  DT_DEVICE static ScanPlace of(const tile::Block& block, int number, const Arguments& p) {
    const int consumer = block.warp() - Shape::kFirstConsumer;
    ScanPlace place;
    place.head = number / p.slices % p.heads;
    place.first_column = number % p.slices * Shape::kRows;
    place.column = place.first_column + 16 * consumer;
    place.sequence = p.sequences[number / p.slices / p.heads];
    place.chunks = static_cast<int>((place.sequence.length + Shape::C - 1) / Shape::C);
    return place;
  }

  int head;
  int first_column;  // of V, of the block
  int column;        // of the warp
  SequenceEntry sequence;
  int chunks;
};

/// Columns of V of the rows of a chunk of a tensor [rows,heads,V].
template <int C, class T>
DT_DEVICE tile::GTile<T> rows_of_chunk(T* tensor, const SequenceEntry& sequence, int chunk, int head, int heads, int V,
                                       int column, int columns = 16) {
  const int64_t stride = int64_t{heads} * V;
  const int64_t before = int64_t{chunk} * C;
  const int64_t left = sequence.length - before;
  return tile::GTile<T>(tensor + (sequence.first_row + before) * stride + int64_t{head} * V + column, stride,
                        static_cast<int>(left < C ? left : C), columns);
}

/// The warp's rows of a state or of its gradient, f32, in sums of products.
template <int K>
DT_DEVICE void load_state(const float* from, bool v_first, int V, int column, tile::WgAcc<K>& sums) {
  if (v_first) {
    const tile::GTile<const float> state(from + int64_t{column} * K, K, 16, K);
    tile::unroll<K / 16>([&](auto c) { sums[c] = tile::load_acc(state, 0, 16 * c); });
  } else {
    const tile::GTile<const float> state(from + column, V, K, 16);
    tile::unroll<K / 16>(
        [&](auto c) { sums[c] = tile::make_acc([&](int row, int col) { return state(16 * c + col, row); }); });
  }
}
template <int K>
DT_DEVICE void store_state(float* to, bool v_first, int V, int column, const tile::WgAcc<K>& sums) {
  if (v_first) {
    const tile::GTile<float> state(to + int64_t{column} * K, K, 16, K);
    tile::unroll<K / 16>([&](auto c) { tile::store(state, 0, 16 * c, sums[c]); });
  } else {
    const tile::GTile<float> state(to + column, V, K, 16);
    tile::unroll<K / 16>([&](auto c) {
      const tile::Acc& x = sums[c];
      tile::each_lane([&](int lane) {
        tile::unroll<tile::Acc::kPerLane>([&](auto i) {
          const tile::Place at = tile::Acc::place(lane, i);
          state.set(16 * c + at.col, at.row, x.x(lane, i));
        });
      });
    });
  }
}
template <int K>
DT_DEVICE void clear(tile::WgAcc<K>& sums) {
  tile::unroll<K / 16>([&](auto c) { sums[c] = tile::zeros(); });
}

/// The state rounded to bf16, and then scaled by the chunk's decay.
template <int K>
DT_DEVICE void round_and_decay(tile::WgAcc<K>& sums, const tile::SRow<float, K>& decay,
                               tile::FragA (&rounded)[K / 16]) {
  tile::unroll<K / 16>([&](auto c) {
    tile::Acc& x = sums[c];
    rounded[c] = tile::as_a(x);
    tile::each_lane([&](int lane) {
      tile::unroll<2>([&](auto half) {
        constexpr int kHalf = decltype(half)::value;
        const auto factor = decay.template read<2>(0, 16 * c + tile::Acc::place(lane, 4 * kHalf).col);
        tile::unroll<4>([&](auto i) { x.x(lane, 4 * kHalf + i) *= factor[i % 2]; });
      });
    });
  });
}

/// Rounded states [V,K] of a chunk, the warp's rows from `column` on.
template <int K>
DT_DEVICE void store_rounded(BFloat16* state, int column, const tile::FragA (&rounded)[K / 16]) {
  const tile::GTile<BFloat16> to(state + int64_t{column} * K, K, 16, K);
  tile::unroll<K / 16>([&](auto c) {
    tile::each_lane([&](int lane) {
      tile::unroll<4>([&](auto r) {
        const tile::Place at = tile::FragA::place(lane, 2 * r);
        to.template write_raw<2>(at.row, 16 * c + at.col,
                                 std::bit_cast<tile::Values<BFloat16, 2>>(rounded[c].x(lane, r)));
      });
    });
  });
}

/// The transpose of [16 of V, C] to rows of tokens, by way of `place`, which only this warp uses.
template <class Place, int tiles>
DT_DEVICE void store_tokens(const tile::Block& block, const Place& place, const tile::FragA (&x)[tiles],
                            const tile::GTile<BFloat16>& to) {
  tile::sync_warp();
  tile::unroll<tiles>([&](auto t) { tile::store_matrix_trans(place, 16 * t, 0, x[t]); });
  tile::sync_warp();
  tile::store(block.this_warp(), to, place);
}
template <int C>
DT_DEVICE void round_to(const tile::WgAcc<C>& x, tile::FragA (&rounded)[C / 16]) {
  tile::unroll<C / 16>([&](auto t) { rounded[t] = tile::as_a(x[t]); });
}

/// The producer: chunk after chunk into the pipe's slots.
template <class Shape>
DT_DEVICE void feed_scan(const tile::Block& block, const ScanPlace& place, const ScanArguments& p,
                         typename Shape::ThePipe& pipe) {
  using TheRecord = typename Shape::TheRecord;
  using Head = typename Shape::template Bytes<Shape::kHead>;
  for (int chunk = 0; chunk < place.chunks; ++chunk) {
    const int stage = pipe.acquire(Shape::kLoadedBytes) * Shape::kStageBytes;
    const int64_t number = place.sequence.first_chunk + chunk;
    const unsigned char* const record = p.records + v1::record_index(number, place.head, p.heads) * TheRecord::kBytes;
    pipe.load_raw(block.shared<Head>(stage), record);
    const BFloat16* const A = p.A + v1::record_index(number, p.A_first + place.head, p.A_heads) * (Shape::C * Shape::C);
    pipe.load_raw(block.shared<typename Shape::Square>(stage + Shape::kA), A);
    if constexpr (Shape::kTail > 0) {
      using Tail = typename Shape::template Bytes<Shape::kTail>;
      pipe.load_raw(block.shared<Tail>(stage + Shape::kTailAt), record + TheRecord::kDecay);
    }
    pipe.load_rows(block.shared<typename Shape::AllValues>(stage + Shape::kValues),
                   rows_of_chunk<Shape::C>(p.v, place.sequence, chunk, p.first_head + place.head, p.HV, p.V,
                                           place.first_column, Shape::kRows));
    pipe.commit();
  }
}

/// A consumer: 16 rows of S^T, and with the other warps of its warpgroup 64.
template <class Shape>
class ScanWarp {
 public:
  DT_DEVICE ScanWarp(const tile::Block& block, const ScanPlace& place, const ScanArguments& p,
                     typename Shape::ThePipe& pipe)
      : block_(block), place_(place), p_(p), pipe_(pipe) {}

  DT_DEVICE void run() {
    if (place_.sequence.state_in < 0 || p_.initial_state == nullptr) {
      clear(S_);
    } else {
      load_state(p_.initial_state + state_offset(place_.sequence.state_in), p_.v_first, p_.V, place_.column, S_);
    }
    int before = 0;  // the stage of the chunk whose output is under way
    for (int chunk = 0; chunk < place_.chunks; ++chunk) {
      const int stage = pipe_.wait() * Shape::kStageBytes;
      step(chunk, stage, before);
      before = stage;
    }
    if constexpr (Shape::kWork == Work::output) {
      if (place_.chunks > 0) {
        finish_output(place_.chunks - 1, before);
      }
    }
    if (place_.sequence.state_out >= 0 && p_.final_state != nullptr) {
      store_state(p_.final_state + state_offset(place_.sequence.state_out), p_.v_first, p_.V, place_.column, S_);
    }
  }

 private:
  static constexpr int C = Shape::C;
  static constexpr int K = Shape::K;
  static constexpr int kTokens = C / 16;    // tiles of tokens
  static constexpr int kChannels = K / 16;  // tiles of channels
  using TheRecord = typename Shape::TheRecord;

  template <class Tile>
  [[nodiscard]] DT_DEVICE Tile part(int stage, int offset) const {
    return block_.template shared<Tile>(stage + offset);
  }
  [[nodiscard]] DT_DEVICE typename Shape::Values values(int stage) const {
    const int consumer = block_.warp() - Shape::kFirstConsumer;
    return part<typename Shape::Values>(stage, Shape::kValues + consumer * Shape::Values::kBytes);
  }
  /// Where state `number` of a tensor of states begins, at the launch's head.
  [[nodiscard]] DT_DEVICE int64_t state_offset(int64_t number) const {
    return (number * p_.HV + p_.first_head + place_.head) * K * p_.V;
  }

  DT_DEVICE void step(int chunk, int stage, [[maybe_unused]] int before) {
    if (p_.h != nullptr && chunk % p_.chunks_per_h == 0) {
      const int64_t number = place_.sequence.first_h + chunk / p_.chunks_per_h;
      store_state(p_.h + state_offset(number), p_.v_first, p_.V, place_.column, S_);
    }
    load_values(stage);
    round_and_decay(S_, part<typename Shape::Decay>(stage, Shape::kDecay), state_);

    const auto A = part<typename Shape::Square>(stage, Shape::kA);
    const auto w = part<typename Shape::Rows>(stage, TheRecord::kW);
    tile::WgAcc<C> U;
    [[maybe_unused]] tile::WgAcc<C> O;
    tile::wg_fence(S_, state_, v_, U);
    tile::unroll<kTokens>([&](auto t) { tile::wg_mma_trans<t == 0>(U, v_[t], A, 16 * t); });
    tile::unroll<kChannels>([&](auto c) { tile::wg_mma_trans(U, state_[c], w, 16 * c); });
    tile::wg_commit();

    if constexpr (Shape::kWork == Work::output) {
      if (chunk > 0) {
        finish_output(chunk - 1, before);
      }
      const auto qg = part<typename Shape::Rows>(stage, TheRecord::kQg);
      tile::wg_fence(O);
      tile::unroll<kChannels>([&](auto c) { tile::wg_mma_trans<c == 0>(O, state_[c], qg, 16 * c); });
      tile::wg_commit();
      tile::wg_wait<1>(U);
    } else {
      tile::wg_wait<0>(U);
    }
    round_to(U, writes_);

    const auto kg = part<typename Shape::Rows>(stage, TheRecord::kKg);
    tile::wg_fence(writes_);
    tile::unroll<kTokens>([&](auto t) { tile::wg_mma(S_, writes_[t], kg, 16 * t); });
    tile::wg_commit();
    if constexpr (Shape::kWork == Work::output) {
      const auto Aqk = part<typename Shape::Square>(stage, TheRecord::kAqk);
      tile::unroll<kTokens>([&](auto t) { tile::wg_mma_trans(O, writes_[t], Aqk, 16 * t); });
      tile::wg_commit();
      tile::wg_wait<0>(S_, O);
      round_to(O, output_);
      pipe_.keep();
    } else {
      const int64_t number = v1::record_index(place_.sequence.first_chunk + chunk, place_.head, p_.heads);
      store_rounded<K>(p_.h_bf16 + number * K * p_.V, place_.column, state_);
      tile::wg_wait<0>(S_);
      store_tokens(block_, values(stage), writes_,
                   rows_of_chunk<C>(p_.v_new, place_.sequence, chunk, place_.head, p_.heads, p_.V, place_.column));
      pipe_.release();
    }
  }

  /// (beta v)^T.
  DT_DEVICE void load_values(int stage) {
    const auto v = values(stage);
    const auto beta = part<typename Shape::Beta>(stage, Shape::kBeta);
    tile::unroll<kTokens>([&](auto t) {
      v_[t] = tile::load_a_trans(v, 16 * t, 0);
      tile::each(v_[t], [&](int, int token, float& x) { x *= beta(0, 16 * t + token); });
    });
  }

  /// Stores a chunk's output, whose products are over, and gives its stage back.
  DT_DEVICE void finish_output(int chunk, int stage) {
    store_tokens(
        block_, values(stage), output_,
        rows_of_chunk<C>(p_.o, place_.sequence, chunk, p_.first_head + place_.head, p_.HV, p_.V, place_.column));
    pipe_.release_kept();
  }

  const tile::Block& block_;
  const ScanPlace& place_;
  const ScanArguments& p_;
  typename Shape::ThePipe& pipe_;
  tile::WgAcc<K> S_;
  tile::FragA state_[kChannels];  // operands of products under way outlive the function that begins them
  tile::FragA v_[kTokens];
  tile::FragA writes_[kTokens];
  tile::FragA output_[kTokens];  // O^T of the chunk before
};

/// Block `number` of a scan.
template <class Shape>
DT_DEVICE void scan_block(const tile::Block& block, int number, const ScanArguments& p) {
  typename Shape::ThePipe pipe(block, Shape::kPipe, Shape::kConsumers);
  block.sync();
  const ScanPlace place = ScanPlace::of<Shape>(block, number, p);
  if (block.warp() < Shape::kFirstConsumer) {
    if constexpr (Shape::kMovesRegisters) {
      tile::give_registers<Shape::kProducerRegisters>();
    }
    if (block.warp() == 0) {
      feed_scan<Shape>(block, place, p, pipe);
    }
  } else {
    if constexpr (Shape::kMovesRegisters) {
      tile::take_registers<Shape::kConsumerRegisters>();
    }
    ScanWarp<Shape>(block, place, p, pipe).run();
  }
}

/// The kernel.
template <int K, int groups>
struct Scan {
  using Params = ScanArguments;
  using Shape = ScanShape<K, groups, Work::output>;
  static constexpr int kWarps = Shape::kWarps;
  static constexpr int kBlocksPerSm = 1;
  static constexpr int kSharedBytes = Shape::kSharedBytes;

  DT_DEVICE void operator()(const tile::Block& block, const Params& p) const {
    if constexpr (tile::kHasWarpgroups) {
      scan_block<Shape>(block, block.x, p);
    } else {
      tile::no_warpgroups();
    }
  }
};

}  // namespace deltatape::cuda::kda::v2
