// The reverse scan on Hopper: v1's, with wgmma and bulk copies. With DA the state's gradient D^T = dS^T [V,K] rounded
// to bf16, per chunk, in the order in which products are begun:
//
//   X^T = do^T Aqk + DA kg^T                            the gradient of v_new, dv2
//   D^T = D^T 2^G_last + do^T qg                        while X^T is rounded
//   D^T += X^T (-w)                                     that of the state before the chunk
#pragma once

#include "backends/cuda/kda/v1/reverse_scan.h"
#include "backends/cuda/kda/v2/scan.h"

namespace deltatape::cuda::kda::v2 {

using v1::ReverseArguments;  // `stages` is not used, and a block takes V / slices rows

/// The producer: chunk after chunk, from the last to the first.
template <class Shape>
DT_DEVICE void feed_reverse(const tile::Block& block, const ScanPlace& place, const ReverseArguments& p,
                            typename Shape::ThePipe& pipe) {
  using Head = typename Shape::template Bytes<Shape::kHead>;
  for (int chunk = place.chunks - 1; chunk >= 0; --chunk) {
    const int stage = pipe.acquire(Shape::kLoadedBytes) * Shape::kStageBytes;
    const int64_t number = v1::record_index(place.sequence.first_chunk + chunk, place.head, p.heads);
    pipe.load_raw(block.shared<Head>(stage), p.records + number * Shape::TheRecord::kBytes);
    if (p.d_o != nullptr) {
      pipe.load_rows(block.shared<typename Shape::AllValues>(stage + Shape::kValues),
                     rows_of_chunk<Shape::C>(p.d_o, place.sequence, chunk, p.first_head + place.head, p.HV, p.V,
                                             place.first_column, Shape::kRows));
    }
    pipe.commit();
  }
}

/// A consumer: 16 rows of D^T, and with the other warps of its warpgroup 64.
template <class Shape>
class ReverseWarp {
 public:
  DT_DEVICE ReverseWarp(const tile::Block& block, const ScanPlace& place, const ReverseArguments& p,
                        typename Shape::ThePipe& pipe)
      : block_(block), place_(place), p_(p), pipe_(pipe) {}

  DT_DEVICE void run() {
    if (place_.sequence.state_out < 0 || p_.d_final_state == nullptr) {
      clear(D_);
    } else {
      load_state(p_.d_final_state + state_offset(place_.sequence.state_out), p_.v_first, p_.V, place_.column, D_);
    }
    for (int chunk = place_.chunks - 1; chunk >= 0; --chunk) {
      step(chunk, pipe_.wait() * Shape::kStageBytes);
      pipe_.release();
    }
    if (place_.sequence.state_in >= 0 && p_.d_initial_state != nullptr) {
      store_state(p_.d_initial_state + state_offset(place_.sequence.state_in), p_.v_first, p_.V, place_.column, D_);
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
  [[nodiscard]] DT_DEVICE int64_t state_offset(int64_t number) const {
    return (number * p_.HV + p_.first_head + place_.head) * K * p_.V;
  }

  DT_DEVICE void step(int chunk, int stage) {
    const int consumer = block_.warp() - Shape::kFirstConsumer;
    const auto values = part<typename Shape::Values>(stage, Shape::kValues + consumer * Shape::Values::kBytes);
    tile::unroll<kTokens>([&](auto t) {
      if (p_.d_o != nullptr) {
        d_o_[t] = tile::load_a_trans(values, 16 * t, 0);
      } else {
        d_o_[t] = tile::as_a(tile::zeros());
      }
    });
    round_and_decay(D_, part<typename Shape::Decay>(stage, Shape::kDecay), gradient_);

    const auto Aqk = part<typename Shape::Square>(stage, TheRecord::kAqk);
    const auto kg = part<typename Shape::Rows>(stage, TheRecord::kKg);
    const auto qg = part<typename Shape::Rows>(stage, TheRecord::kQg);
    const auto w = part<typename Shape::Rows>(stage, TheRecord::kW);
    tile::WgAcc<C> X;
    tile::wg_fence(D_, gradient_, d_o_, X);
    tile::unroll<kTokens>([&](auto t) { tile::wg_mma<t == 0>(X, d_o_[t], Aqk, 16 * t); });
    tile::unroll<kChannels>([&](auto c) { tile::wg_mma_trans(X, gradient_[c], kg, 16 * c); });
    tile::wg_commit();
    tile::unroll<kTokens>([&](auto t) { tile::wg_mma(D_, d_o_[t], qg, 16 * t); });
    tile::wg_commit();

    tile::wg_wait<1>(X);
    round_to(X, dv2_);
    tile::wg_fence(dv2_);
    tile::unroll<kTokens>([&](auto t) { tile::wg_mma(D_, dv2_[t], w, 16 * t); });
    tile::wg_commit();
    const int64_t number = v1::record_index(place_.sequence.first_chunk + chunk, place_.head, p_.heads);
    store_rounded<K>(p_.dS + number * K * p_.V, place_.column, gradient_);
    tile::wg_wait<0>(D_);
    store_tokens(block_, values, dv2_,
                 rows_of_chunk<C>(p_.dv2, place_.sequence, chunk, place_.head, p_.heads, p_.V, place_.column));
  }

  const tile::Block& block_;
  const ScanPlace& place_;
  const ReverseArguments& p_;
  typename Shape::ThePipe& pipe_;
  tile::WgAcc<K> D_;
  tile::FragA gradient_[kChannels];  // operands of products under way outlive the function that begins them
  tile::FragA d_o_[kTokens];
  tile::FragA dv2_[kTokens];
};

/// Block `number` of a reverse scan.
template <class Shape>
DT_DEVICE void reverse_block(const tile::Block& block, int number, const ReverseArguments& p) {
  typename Shape::ThePipe pipe(block, Shape::kPipe, Shape::kConsumers);
  block.sync();
  const ScanPlace place = ScanPlace::of<Shape>(block, number, p);
  if (block.warp() < Shape::kFirstConsumer) {
    if constexpr (Shape::kMovesRegisters) {
      tile::give_registers<Shape::kProducerRegisters>();
    }
    if (block.warp() == 0) {
      feed_reverse<Shape>(block, place, p, pipe);
    }
  } else {
    if constexpr (Shape::kMovesRegisters) {
      tile::take_registers<Shape::kConsumerRegisters>();
    }
    ReverseWarp<Shape>(block, place, p, pipe).run();
  }
}

/// Blocks 0 .. forward_blocks - 1 are the scan that finds h and v_new, as many behind them the reverse scan.
template <int K, int groups>
struct BothScans {
  using Params = v1::BothScansArguments;
  using Forward = ScanShape<K, groups, Work::states>;
  using Reverse = ScanShape<K, groups, Work::gradient>;
  static constexpr int kWarps = Forward::kWarps;
  static constexpr int kBlocksPerSm = 1;
  static constexpr int kSharedBytes =
      Forward::kSharedBytes > Reverse::kSharedBytes ? Forward::kSharedBytes : Reverse::kSharedBytes;

  DT_DEVICE void operator()(const tile::Block& block, const Params& p) const {
    if constexpr (tile::kHasWarpgroups) {
      if (block.x < p.forward_blocks) {
        scan_block<Forward>(block, block.x, p.forward);
      } else {
        reverse_block<Reverse>(block, block.x - p.forward_blocks, p.reverse);
      }
    } else {
      tile::no_warpgroups();
    }
  }
};

}  // namespace deltatape::cuda::kda::v2
