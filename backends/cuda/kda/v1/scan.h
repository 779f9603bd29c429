// The scan: the state from chunk to chunk, and the output. One block per sequence, value head and slice of V.
//
// A warp holds 16 rows of S^T [V,K] as sums of its tensor cores from the first chunk to the last; rows never mix, so
// warps meet only where a stage of shared memory changes hands. With SA the state rounded to bf16, per chunk:
//
//   U^T = (beta v)^T A^T + SA (-w)^T          what the chunk writes, v_new
//   S^T = S^T 2^G_last + U^T kg
//   O^T = SA qg^T + U^T Aqk^T
//
// The layout of sums, rounded in place, is that of left operands: nothing moves between lanes but o on its way out.
#pragma once

#include "backends/cuda/kda/sequences.h"
#include "backends/cuda/kda/tile/copy.h"
#include "backends/cuda/kda/tile/launch.h"
#include "backends/cuda/kda/tile/mma.h"
#include "backends/cuda/kda/v1/record.h"
#include "backends/cuda/kda/v1/state_tiles.h"

namespace deltatape::cuda::kda::v1 {

/// What a scan is given: the value heads [first_head, first_head + heads) of a launch.
struct ScanArguments {
  const unsigned char* records = nullptr;  // [chunks,heads]
  const BFloat16* A = nullptr;             // images [chunks,A_heads,C,C]
  int A_heads = 1;                         // of the array; the launch's first head is its A_first
  int A_first = 0;
  const BFloat16* v = nullptr;               // [rows,HV,V]; null, with kEndOnly: see there
  const SequenceEntry* sequences = nullptr;  // longest first
  const float* initial_state = nullptr;      // [N,HV,K,V] ([N,HV,V,K] with v_first) or null
  float* final_state = nullptr;              // likewise
  float* h = nullptr;  // [*,HV,K,V] ([..,V,K]) or null: the states before every `chunks_per_h`-th chunk
  int chunks_per_h = 1;
  BFloat16* o = nullptr;       // [rows,HV,V]; with kWritesOutput only
  BFloat16* h_bf16 = nullptr;  // [chunks,heads,V,K]; with kWritesStates only
  BFloat16* v_new = nullptr;   // [rows,heads,V]; likewise
  int HV = 1;
  int V = 1;
  int first_head = 0;
  int heads = 1;
  int slices = 1;  // of V; a block has V / slices / 16 warps
  int stages = 2;  // of shared memory: 2 or 3
  bool v_first = false;
};

/// Sizes known to the compiler. `for_backward`: v_new and the states before chunks as bf16, and no output. `end_only`:
/// nothing but the state at the end; where there is no v, that of values that are 0 and the unit matrix at the start.
template <int chunk, int channels, bool for_backward, bool end_only = false>
struct ScanShape {
  static constexpr int C = chunk;
  static constexpr int K = channels;
  static constexpr bool kEndOnly = end_only;
  static constexpr bool kWritesOutput = !for_backward && !end_only;
  static constexpr bool kWritesStates = for_backward && !end_only;
  static constexpr int kMostWarps = 8;
  static_assert((C == 32 || C == 64) && (K == 64 || K == 128));

  using TheRecord = Record<C, K>;
  using Rows = tile::STile<BFloat16, C, K, tile::Swizzled>;
  using Square = tile::STile<BFloat16, C, C, tile::Swizzled>;
  using Decay = tile::SRow<float, K>;
  using Beta = tile::SRow<float, C>;
  using Values = tile::STile<BFloat16, C, 16, tile::Swizzled>;  // of one warp

  // Byte offsets in a stage.
  static constexpr int kA = TheRecord::kBytes;
  static constexpr int kValues = kA + TheRecord::kSolvedBytes;
  static constexpr int stage_bytes(int warps) { return kValues + warps * Values::kBytes; }
  static_assert(2 * stage_bytes(kMostWarps) <= 163 * 1024 && 3 * stage_bytes(kMostWarps / 2) <= 227 * 1024,
                "two stages are to fit into a block on sm_80, three of half the warps on sm_90");
};

template <class Shape>
class ScanWarp {
 public:
  /// `number` is that of the block among those of the scan.
  DT_DEVICE ScanWarp(const tile::Block& block, int number, const ScanArguments& p)
      : block_(block),
        p_(p),
        head_(number / p.slices % p.heads),
        column_((number % p.slices * block.warps() + block.warp()) * 16),
        sequence_(p.sequences[number / p.slices / p.heads]),
        chunks_(static_cast<int>((sequence_.length + C - 1) / C)) {}

  DT_DEVICE void run() {
    load_state();
    const int stage_bytes = Shape::stage_bytes(block_.warps());
    const int all_bytes = p_.stages * stage_bytes;
    int next = 0;  // the stage that is filled next, in bytes, and the one that is read
    int stage = 0;
    for (int i = 0; i < p_.stages - 1; ++i) {
      fetch(i, next);
      next += stage_bytes;
    }
    for (int i = 0; i < chunks_; ++i) {
      if (p_.stages == 3) {
        tile::wait_copies<1>();
      } else {
        tile::wait_copies<0>();
      }
      block_.sync();  // the chunk is there for all, and nobody needs the one before any more
      fetch(i + p_.stages - 1, next);
      step(i, stage);
      next = next + stage_bytes == all_bytes ? 0 : next + stage_bytes;
      stage = stage + stage_bytes == all_bytes ? 0 : stage + stage_bytes;
    }
    tile::wait_copies<0>();
    if (sequence_.state_out >= 0 && p_.final_state != nullptr) {
      store_state(p_.final_state + state_offset(sequence_.state_out));
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
    return part<typename Shape::Values>(stage, Shape::kValues + block_.warp() * Shape::Values::kBytes);
  }
  [[nodiscard]] DT_DEVICE int rows_of(int chunk) const {
    const int64_t left = sequence_.length - int64_t{chunk} * C;
    return static_cast<int>(left < C ? left : C);
  }
  /// The warp's columns of the chunk's rows of a tensor [rows,heads,V].
  template <class T>
  [[nodiscard]] DT_DEVICE tile::GTile<T> rows(T* tensor, int chunk, int head, int heads) const {
    const int64_t stride = int64_t{heads} * p_.V;
    const int64_t first = sequence_.first_row + int64_t{chunk} * C;
    return tile::GTile<T>(tensor + first * stride + int64_t{head} * p_.V + column_, stride, rows_of(chunk), 16);
  }

  /// Whether there is v; a question only where a scan may be without it.
  [[nodiscard]] DT_DEVICE bool has_values() const {
    if constexpr (Shape::kEndOnly) {
      return p_.v != nullptr;
    } else {
      return true;
    }
  }

  /// Begins to copy a chunk to its stage; an empty group of copies where there is none.
  DT_DEVICE void fetch(int chunk, int stage) const {
    if (chunk < chunks_) {
      const int64_t number = sequence_.first_chunk + chunk;
      const unsigned char* const record = p_.records + record_index(number, head_, p_.heads) * TheRecord::kBytes;
      const BFloat16* const A = p_.A + record_index(number, p_.A_first + head_, p_.A_heads) * (C * C);
      copy_parts(stage, record);
      if (has_values()) {
        tile::copy_async_raw(block_, part<typename Shape::Square>(stage, Shape::kA), A);
        tile::copy_async(block_.this_warp(), values(stage), rows(p_.v, chunk, p_.first_head + head_, p_.HV));
      }
    }
    tile::commit_copies();
  }
  DT_DEVICE void copy_parts(int stage, const unsigned char* record) const {
    const auto copy_matrix = [&](auto to, int offset) {
      tile::copy_async_raw(block_, to, reinterpret_cast<const BFloat16*>(record + offset));
    };
    const auto copy_numbers = [&](auto to, int offset) {
      tile::copy_async_raw(block_, to, reinterpret_cast<const float*>(record + offset));
    };
    copy_matrix(part<typename Shape::Rows>(stage, TheRecord::kW), TheRecord::kW);
    copy_matrix(part<typename Shape::Rows>(stage, TheRecord::kKg), TheRecord::kKg);
    if constexpr (Shape::kWritesOutput) {
      copy_matrix(part<typename Shape::Rows>(stage, TheRecord::kQg), TheRecord::kQg);
      copy_matrix(part<typename Shape::Square>(stage, TheRecord::kAqk), TheRecord::kAqk);
    }
    copy_numbers(part<typename Shape::Decay>(stage, TheRecord::kDecay), TheRecord::kDecay);
    copy_numbers(part<typename Shape::Beta>(stage, TheRecord::kBeta), TheRecord::kBeta);
  }

  DT_DEVICE void step(int chunk, int stage) {
    if constexpr (!Shape::kEndOnly) {
      if (p_.h != nullptr && chunk % p_.chunks_per_h == 0) {
        store_state(p_.h + state_offset(sequence_.first_h + chunk / p_.chunks_per_h));
      }
    }
    tile::FragA state[kChannels];
    tile::unroll<kChannels>([&](auto c) { state[c] = tile::as_a(S_[c]); });
    if constexpr (Shape::kWritesStates) {
      store_rounded_state(chunk, state);
    }
    decay_state(S_, part<typename Shape::Decay>(stage, TheRecord::kDecay));

    tile::FragA writes[kTokens];
    find_writes(chunk, stage, state, writes);
    const auto kg = part<typename Shape::Rows>(stage, TheRecord::kKg);
    tile::unroll<kTokens>([&](auto t) {
      tile::unroll<kChannels>([&](auto c) { tile::mma(S_[c], writes[t], tile::load_b(kg, 16 * t, 16 * c)); });
    });
    if constexpr (Shape::kWritesOutput) {
      find_output(chunk, stage, state, writes);
    }
  }

  /// U^T, rounded.
  DT_DEVICE void find_writes(int chunk, int stage, const tile::FragA (&state)[kChannels],
                             tile::FragA (&writes)[kTokens]) const {
    const auto v = values(stage);
    const auto beta = part<typename Shape::Beta>(stage, TheRecord::kBeta);
    const auto A = part<typename Shape::Square>(stage, Shape::kA);
    const auto w = part<typename Shape::Rows>(stage, TheRecord::kW);
    tile::Acc U[kTokens];
    tile::unroll<kTokens>([&](auto t) { U[t] = tile::zeros(); });
    if (has_values()) {
      tile::unroll<kTokens>([&](auto from) {
        constexpr int kFrom = decltype(from)::value;
        tile::FragA v_of = tile::load_a_trans(v, 16 * kFrom, 0);
        tile::each(v_of, [&](int, int token, float& x) { x *= beta(0, 16 * kFrom + token); });
        tile::unroll<kTokens - kFrom>([&](auto below) {
          constexpr int kTo = kFrom + decltype(below)::value;
          tile::mma(U[kTo], v_of, tile::load_b_trans(A, 16 * kTo, 16 * kFrom));
        });
      });
    }
    tile::unroll<kChannels>([&](auto c) {
      tile::unroll<kTokens>([&](auto t) { tile::mma(U[t], state[c], tile::load_b_trans(w, 16 * t, 16 * c)); });
    });
    tile::unroll<kTokens>([&](auto t) { writes[t] = tile::as_a(U[t]); });
    if constexpr (Shape::kWritesStates) {
      store_tokens(stage, U, rows(p_.v_new, chunk, head_, p_.heads));
    }
  }

  DT_DEVICE void find_output(int chunk, int stage, const tile::FragA (&state)[kChannels],
                             const tile::FragA (&writes)[kTokens]) const {
    const auto qg = part<typename Shape::Rows>(stage, TheRecord::kQg);
    const auto Aqk = part<typename Shape::Square>(stage, TheRecord::kAqk);
    tile::Acc O[kTokens];
    tile::unroll<kTokens>([&](auto t) { O[t] = tile::zeros(); });
    tile::unroll<kChannels>([&](auto c) {
      tile::unroll<kTokens>([&](auto t) { tile::mma(O[t], state[c], tile::load_b_trans(qg, 16 * t, 16 * c)); });
    });
    tile::unroll<kTokens>([&](auto from) {
      constexpr int kFrom = decltype(from)::value;
      tile::unroll<kTokens - kFrom>([&](auto below) {
        constexpr int kTo = kFrom + decltype(below)::value;
        tile::mma(O[kTo], writes[kFrom], tile::load_b_trans(Aqk, 16 * kTo, 16 * kFrom));
      });
    });
    store_tokens(stage, O, rows(p_.o, chunk, p_.first_head + head_, p_.HV));
  }

  /// The transpose of [16 of V, C] to rows of tokens, by way of the place of v, which is no longer needed.
  DT_DEVICE void store_tokens(int stage, const tile::Acc (&x)[kTokens], const tile::GTile<BFloat16>& to) const {
    const auto place = values(stage);
    tile::sync_warp();
    tile::unroll<kTokens>([&](auto t) { tile::store_trans(place, 16 * t, 0, x[t]); });
    tile::sync_warp();
    tile::store(block_.this_warp(), to, place);
  }

  /// Where state `number` of a tensor of states begins, at the launch's head.
  [[nodiscard]] DT_DEVICE int64_t state_offset(int64_t number) const {
    return (number * p_.HV + p_.first_head + head_) * K * p_.V;
  }

  DT_DEVICE void load_state() {
    if (!has_values()) {
      make_unit_columns(S_, column_);
    } else if (sequence_.state_in < 0 || p_.initial_state == nullptr) {
      clear_state(S_);
    } else {
      load_state_columns<K>(S_, p_.initial_state + state_offset(sequence_.state_in), column_, p_.V, p_.v_first);
    }
  }
  DT_DEVICE void store_state(float* to) const { store_state_columns<K>(S_, to, column_, p_.V, p_.v_first); }
  DT_DEVICE void store_rounded_state(int chunk, const tile::FragA (&state)[kChannels]) const {
    const int64_t number = record_index(sequence_.first_chunk + chunk, head_, p_.heads);
    const tile::GTile<BFloat16> to(p_.h_bf16 + (number * p_.V + column_) * K, K, 16, K);
    tile::unroll<kChannels>([&](auto c) { store_rounded(to, 16 * c, state[c]); });
  }

  const tile::Block& block_;
  const ScanArguments& p_;
  int head_;
  int column_;  // of V, the warp's first
  SequenceEntry sequence_;
  int chunks_;
  tile::Acc S_[kChannels];
};

/// The kernel; warps and shared memory are up to the launch.
template <class Shape>
struct Scan {
  using Params = ScanArguments;
  static constexpr int kWarps = Shape::kMostWarps;
  static constexpr int kBlocksPerSm = 1;

  DT_DEVICE void operator()(const tile::Block& block, const Params& p) const {
    ScanWarp<Shape>(block, block.x, p).run();
  }
};

}  // namespace deltatape::cuda::kda::v1
