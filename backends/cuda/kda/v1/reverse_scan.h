// B2: the state's gradient from the last chunk to the first, beside the scan that finds the states again. Neither needs
// the other, so both run in one grid.
//
// A warp holds 16 rows of D^T = dS^T [V,K] as sums of its tensor cores. With DA the same rounded to bf16, per chunk:
//
//   X^T = do^T Aqk + DA kg^T                            the gradient of v_new, dv2
//   D^T = D^T 2^G_last + do^T qg + X^T (-w)             that of the state before the chunk
//
// do^T comes transposed out of shared memory once and serves both lines. DA is stored: it is the dS that B3 reads.
#pragma once

#include "backends/cuda/kda/v1/scan.h"

namespace deltatape::cuda::kda::v1 {

/// What the reverse scan is given: the value heads [first_head, first_head + heads) of a launch.
struct ReverseArguments {
  const unsigned char* records = nullptr;    // [chunks,heads]
  const BFloat16* d_o = nullptr;             // [rows,HV,V] or null: zeros
  const SequenceEntry* sequences = nullptr;  // longest first
  const float* d_final_state = nullptr;      // [N,HV,K,V] ([N,HV,V,K] with v_first) or null: zeros
  float* d_initial_state = nullptr;          // likewise, or null
  BFloat16* dS = nullptr;                    // [chunks,heads,V,K], gradients of the states after the chunks
  BFloat16* dv2 = nullptr;                   // [rows,heads,V]
  int HV = 1;
  int V = 1;
  int first_head = 0;
  int heads = 1;
  int slices = 1;  // of V; a block has V / slices / 16 warps
  int stages = 2;  // of shared memory: 2 or 3
  bool v_first = false;
};

template <class Shape>
class ReverseWarp {
 public:
  /// `number` is that of the block among those of the reverse scan.
  DT_DEVICE ReverseWarp(const tile::Block& block, int number, const ReverseArguments& p)
      : block_(block),
        p_(p),
        head_(number / p.slices % p.heads),
        column_((number % p.slices * block.warps() + block.warp()) * 16),
        sequence_(p.sequences[number / p.slices / p.heads]),
        chunks_(static_cast<int>((sequence_.length + C - 1) / C)) {}

  DT_DEVICE void run() {
    load_gradient();
    for (int turn = 0; turn < p_.stages - 1; ++turn) {
      fetch(turn);
    }
    for (int turn = 0; turn < chunks_; ++turn) {
      if (p_.stages == 3) {
        tile::wait_copies<1>();
      } else {
        tile::wait_copies<0>();
      }
      block_.sync();  // the chunk is there for all, and nobody needs the one before any more
      fetch(turn + p_.stages - 1);
      step(turn);
    }
    tile::wait_copies<0>();
    if (sequence_.state_in >= 0 && p_.d_initial_state != nullptr) {
      store_gradient(p_.d_initial_state + state_offset(sequence_.state_in));
    }
  }

 private:
  static constexpr int C = Shape::C;
  static constexpr int K = Shape::K;
  static constexpr int kTokens = C / 16;    // tiles of tokens
  static constexpr int kChannels = K / 16;  // tiles of channels
  using TheRecord = typename Shape::TheRecord;

  template <class Tile>
  [[nodiscard]] DT_DEVICE Tile part(int turn, int offset) const {
    return block_.template shared<Tile>(turn % p_.stages * Shape::stage_bytes(block_.warps()) + offset);
  }
  [[nodiscard]] DT_DEVICE typename Shape::Values values(int turn) const {
    return part<typename Shape::Values>(turn, Shape::kValues + block_.warp() * Shape::Values::kBytes);
  }
  /// The chunk that is the turn-th from the end.
  [[nodiscard]] DT_DEVICE int chunk_of(int turn) const { return chunks_ - 1 - turn; }
  /// The warp's columns of the rows of the turn's chunk of a tensor [rows,heads,V].
  template <class T>
  [[nodiscard]] DT_DEVICE tile::GTile<T> rows(T* tensor, int turn, int head, int heads) const {
    const int64_t stride = int64_t{heads} * p_.V;
    const int64_t before = int64_t{chunk_of(turn)} * C;
    const int64_t left = sequence_.length - before;
    return tile::GTile<T>(tensor + (sequence_.first_row + before) * stride + int64_t{head} * p_.V + column_, stride,
                          static_cast<int>(left < C ? left : C), 16);
  }
  [[nodiscard]] DT_DEVICE int64_t record_of(int turn) const {
    return record_index(sequence_.first_chunk + chunk_of(turn), head_, p_.heads);
  }

  /// Begins to copy a chunk to its stage; an empty group of copies where there is none.
  DT_DEVICE void fetch(int turn) const {
    if (turn < chunks_) {
      const unsigned char* const record = p_.records + record_of(turn) * TheRecord::kBytes;
      const auto copy_matrix = [&](auto to, int offset) {
        tile::copy_async_raw(block_, to, reinterpret_cast<const BFloat16*>(record + offset));
      };
      copy_matrix(part<typename Shape::Rows>(turn, TheRecord::kW), TheRecord::kW);
      copy_matrix(part<typename Shape::Rows>(turn, TheRecord::kKg), TheRecord::kKg);
      copy_matrix(part<typename Shape::Rows>(turn, TheRecord::kQg), TheRecord::kQg);
      copy_matrix(part<typename Shape::Square>(turn, TheRecord::kAqk), TheRecord::kAqk);
      tile::copy_async_raw(block_, part<typename Shape::Decay>(turn, TheRecord::kDecay),
                           reinterpret_cast<const float*>(record + TheRecord::kDecay));
      if (p_.d_o != nullptr) {
        tile::copy_async(block_.this_warp(), values(turn), rows(p_.d_o, turn, p_.first_head + head_, p_.HV));
      }
    }
    tile::commit_copies();
  }

  DT_DEVICE void step(int turn) {
    tile::FragA d_o[kTokens];
    tile::unroll<kTokens>([&](auto t) {
      if (p_.d_o != nullptr) {
        d_o[t] = tile::load_a_trans(values(turn), 16 * t, 0);
      } else {
        d_o[t] = tile::as_a(tile::zeros());
      }
    });
    tile::FragA dv2[kTokens];
    find_gradient_of_writes(turn, d_o, dv2);
    decay_state(D_, part<typename Shape::Decay>(turn, TheRecord::kDecay));
    const auto qg = part<typename Shape::Rows>(turn, TheRecord::kQg);
    const auto w = part<typename Shape::Rows>(turn, TheRecord::kW);
    tile::unroll<kTokens>([&](auto t) {
      tile::unroll<kChannels>([&](auto c) {
        tile::mma(D_[c], d_o[t], tile::load_b(qg, 16 * t, 16 * c));
        tile::mma(D_[c], dv2[t], tile::load_b(w, 16 * t, 16 * c));
      });
    });
  }

  /// X^T, rounded; stored as rows of tokens. Stores DA too. (With kEndOnly neither.)
  DT_DEVICE void find_gradient_of_writes(int turn, const tile::FragA (&d_o)[kTokens],
                                         tile::FragA (&dv2)[kTokens]) const {
    const auto Aqk = part<typename Shape::Square>(turn, TheRecord::kAqk);
    const auto kg = part<typename Shape::Rows>(turn, TheRecord::kKg);
    tile::Acc X[kTokens];
    tile::unroll<kTokens>([&](auto t) { X[t] = tile::zeros(); });
    tile::unroll<kTokens>([&](auto to) {
      constexpr int kTo = decltype(to)::value;
      tile::unroll<kTokens - kTo>([&](auto below) {
        constexpr int kFrom = kTo + decltype(below)::value;
        tile::mma(X[kTo], d_o[kFrom], tile::load_b(Aqk, 16 * kFrom, 16 * kTo));
      });
    });
    const tile::GTile<BFloat16> dS(p_.dS + (record_of(turn) * p_.V + column_) * K, K, 16, K);
    tile::unroll<kChannels>([&](auto c) {
      const tile::FragA gradient = tile::as_a(D_[c]);
      if constexpr (Shape::kWritesStates) {
        store_rounded(dS, 16 * c, gradient);
      }
      tile::unroll<kTokens>([&](auto t) { tile::mma(X[t], gradient, tile::load_b_trans(kg, 16 * t, 16 * c)); });
    });
    tile::unroll<kTokens>([&](auto t) { dv2[t] = tile::as_a(X[t]); });
    if constexpr (Shape::kWritesStates) {
      // By way of the place of d_o, which only this warp reads.
      const auto place = values(turn);
      tile::sync_warp();
      tile::unroll<kTokens>([&](auto t) { tile::store_trans(place, 16 * t, 0, X[t]); });
      tile::sync_warp();
      tile::store(block_.this_warp(), rows(p_.dv2, turn, head_, p_.heads), place);
    }
  }

  /// Where state `number` of a tensor of states begins, at the launch's head.
  [[nodiscard]] DT_DEVICE int64_t state_offset(int64_t number) const {
    return (number * p_.HV + p_.first_head + head_) * K * p_.V;
  }
  DT_DEVICE void load_gradient() {
    if (sequence_.state_out < 0 || p_.d_final_state == nullptr) {
      clear_state(D_);
    } else {
      load_state_columns<K>(D_, p_.d_final_state + state_offset(sequence_.state_out), column_, p_.V, p_.v_first);
    }
  }
  DT_DEVICE void store_gradient(float* to) const { store_state_columns<K>(D_, to, column_, p_.V, p_.v_first); }

  const tile::Block& block_;
  const ReverseArguments& p_;
  int head_;
  int column_;  // of V, the warp's first
  SequenceEntry sequence_;
  int chunks_;
  tile::Acc D_[kChannels];
};

/// Blocks 0 .. forward_blocks - 1 are the scan that finds h and v_new, as many behind them the reverse scan.
struct BothScansArguments {
  ScanArguments forward;
  ReverseArguments reverse;
  int forward_blocks = 0;
};
template <int C, int K>
struct BothScans {
  using Params = BothScansArguments;
  using Shape = ScanShape<C, K, true>;
  static constexpr int kWarps = Shape::kMostWarps;
  static constexpr int kBlocksPerSm = 1;

  DT_DEVICE void operator()(const tile::Block& block, const Params& p) const {
    if (block.x < p.forward_blocks) {
      ScanWarp<Shape>(block, block.x, p.forward).run();
    } else {
      ReverseWarp<Shape>(block, block.x - p.forward_blocks, p.reverse).run();
    }
  }
};

}  // namespace deltatape::cuda::kda::v1
