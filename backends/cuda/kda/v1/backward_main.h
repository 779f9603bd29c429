// B3: all that is local to a chunk, for one value head: from the states before it and the gradient of the state after it
// to dq, dk, dv, dg, dbeta and the chunk's shares of dA_log and ddt_bias.
//
//   phase                          who holds what                                     barriers
//   1 norm of q and k              a warp a row                                       1
//   2 Lam = A' dv2, dv, Lam . v    a warp 16 tokens x V / column groups               2
//   3 dP = scale tril(do v_new')   tasks of 16 x 16, split over the warps             1
//     dM = -stril(Lam v_new')
//   4 pairs of tokens              a warp 16 channels x 32 tokens, in registers       1, between the halves of 64
//   5 through the states           the same registers                                 1
//   6 dg, gate, norm, sigmoid      the same registers, then whole rows                3
//
// docs/cuda-kda-backward.md has the map of shared memory and the reasons.
#pragma once

#include "backends/cuda/kda/sequences.h"
#include "backends/cuda/kda/tile/tile.h"
#include "backends/cuda/kda/v1/decay.h"
#include "backends/cuda/kda/v1/gate_backward.h"
#include "backends/cuda/kda/v1/intra_backward.h"
#include "backends/cuda/kda/v1/record.h"

namespace deltatape::cuda::kda::v1 {

/// What B3 reads and writes. "Rows" are tokens, row * T + t; value heads first_head .. first_head + heads - 1 are the
/// launch's, and the arrays of the workspace have `heads` heads.
struct MainParams {
  const ChunkEntry* chunks;
  int64_t rows;    // B * T
  int H;           // heads of q and k
  int HV;          // value heads
  int first_head;  // of the launch
  int heads;
  const BFloat16* q;     // [rows,H,K]
  const BFloat16* k;     // [rows,H,K]
  const BFloat16* v;     // [rows,HV,V]
  const BFloat16* g;     // [rows,HV,K]
  const BFloat16* beta;  // [rows,HV]
  const BFloat16* d_o;   // [rows,HV,V] or nullptr: zeros
  const float* A_log;    // [HV] or nullptr
  const float* dt_bias;  // [HV,K] or nullptr
  const BFloat16* A;     // [chunks,HV] images of [C,C], see Record
  const BFloat16* h;     // [chunks,heads,V,K], states before the chunks
  const BFloat16* dS;    // [chunks,heads,V,K], gradients of the states after them
  const BFloat16* v_new; // [chunks,heads,C,V]
  const BFloat16* dv2;   // [chunks,heads,C,V]
  float scale;
  Gate gate;
  float lower_bound;
  bool l2norm;
  bool beta_sigmoid;
  float beta_factor;
  BFloat16* dq;          // [rows,H,K]; each of the results may be nullptr
  BFloat16* dk;          // [rows,H,K]
  BFloat16* dv;          // [rows,HV,V]
  BFloat16* dg;          // [rows,HV,K]
  BFloat16* dbeta;       // [rows,HV]
  float* dq_parts;       // [rows,heads,K]: instead of dq where several value heads share one head of q, before the norm
  float* dk_parts;       // [rows,heads,K]
  float* gate_sums;      // [chunks,heads,2,K]: shares of ddt_bias; of dA_log
};

template <int C, int K, int V>
struct BackwardMain {
  using Params = MainParams;

  static constexpr int kHalves = C / 32;         // of the tokens
  static constexpr int kChannelGroups = K / 16;  // of a warp's channels
  static constexpr int kWarps = kChannelGroups * kHalves;
  static constexpr int kBlocksPerSm = 1;
  static constexpr int kRowBlocks = C / 16;
  static constexpr int kColumnGroups = kWarps / kRowBlocks;  // of V in phase 2
  static constexpr int kLamColumns = V / kColumnGroups;
  static_assert(C == 64 || C == 32);
  static_assert(kWarps % kRowBlocks == 0 && kLamColumns % 16 == 0);

  using TokensK = tile::STile<BFloat16, C, K, tile::Swizzled>;
  using TokensV = tile::STile<BFloat16, C, V, tile::Swizzled>;
  using Square = tile::STile<BFloat16, C, C, tile::Swizzled>;
  using State = tile::STile<BFloat16, V, K, tile::Swizzled>;
  using PerToken = tile::SRow<float, C>;
  using LamShares = tile::STile<float, kColumnGroups, C>;
  using Shares = tile::STile<float, 3 * kChannelGroups, C>;  // of sums over channels: q . dq, k . dk, dbeta
  using Sums = tile::STile<float, 2, C>;
  using PerChannel = tile::STile<float, kHalves, K>;
  using GateShares = tile::STile<float, 2 * kHalves, K>;
  static constexpr int kQ = 0;
  static constexpr int kKeys = kQ + TokensK::kBytes;
  static constexpr int kG = kKeys + TokensK::kBytes;
  static constexpr int kV = kG + TokensK::kBytes;
  static constexpr int kDo = kV + TokensV::kBytes;
  static constexpr int kVNew = kDo + TokensV::kBytes;
  static constexpr int kDv2 = kVNew + TokensV::kBytes;  // then Lam
  static constexpr int kH = kDv2 + TokensV::kBytes;
  static constexpr int kDS = kH + State::kBytes;
  static constexpr int kA = kDS + State::kBytes;
  static constexpr int kDP = kA + Square::kBytes;
  static constexpr int kDM = kDP + Square::kBytes;
  static constexpr int kBeta = kDM + Square::kBytes;
  static constexpr int kDiagonal = kBeta + PerToken::kBytes;
  static constexpr int kQNorm = kDiagonal + PerToken::kBytes;
  static constexpr int kKNorm = kQNorm + PerToken::kBytes;
  static constexpr int kLamShares = kKNorm + PerToken::kBytes;
  static constexpr int kTotals = kLamShares + LamShares::kBytes;  // log decays of the halves
  static constexpr int kMail = kTotals + PerChannel::kBytes;
  // The mail is read before the barrier of phase 5; then its place is free.
  static constexpr int kShares = kMail;
  static constexpr int kSums = kShares + Shares::kBytes;
  static constexpr int kLast = kSums + Sums::kBytes;
  static constexpr int kHalfTotals = kLast + PerChannel::kBytes;
  static constexpr int kGateShares = kHalfTotals + PerChannel::kBytes;
  static constexpr int kEnds = kGateShares + GateShares::kBytes;
  static constexpr int kMailEnd = kMail + (kHalves == 2 ? 3 * kWarps * tile::kLanes * 16 : 0);
  static constexpr int kSharedBytes = kEnds > kMailEnd ? kEnds : kMailEnd;

  /// The part of a chunk that a warp holds from phase 4 on.
  struct Place {
    int channel;  // the first of 16
    int half;     // of the chunk's tokens
    int token;    // the first of 32
  };
  struct Tiles {
    TokensK q, k, g;
    TokensV v, d_o, v_new, lam;
    State h, dS;
    Square A, dP, dM;
    PerToken beta, diagonal, q_norm, k_norm;
  };
  DT_DEVICE static Tiles tiles_of(const tile::Block& block) {
    return {block.shared<TokensK>(kQ),       block.shared<TokensK>(kKeys),   block.shared<TokensK>(kG),
            block.shared<TokensV>(kV),       block.shared<TokensV>(kDo),     block.shared<TokensV>(kVNew),
            block.shared<TokensV>(kDv2),     block.shared<State>(kH),        block.shared<State>(kDS),
            block.shared<Square>(kA),        block.shared<Square>(kDP),      block.shared<Square>(kDM),
            block.shared<PerToken>(kBeta),   block.shared<PerToken>(kDiagonal),
            block.shared<PerToken>(kQNorm),  block.shared<PerToken>(kKNorm)};
  }

  DT_DEVICE void operator()(const tile::Block& block, const Params& p) const {
    const ChunkEntry chunk = p.chunks[block.x];
    const int length = chunk.length;
    const int head = p.first_head + block.y;
    const Tiles t = tiles_of(block);
    load(block, p, chunk, head, t);

    tile::wait_copies<2>();
    block.sync();
    if (p.l2norm) {
      normalise(block, t.q, t.q_norm);
      normalise(block, t.k, t.k_norm);
    }
    tile::wait_copies<1>();
    block.sync();
    solve_adjoint(block, p, t);
    pair_gradients(block, p, t);
    block.sync();
    if (p.dv != nullptr) {
      tile::store(block, rows_of(p.dv, p.HV, head, V, chunk), t.v);
    }

    const int warp = block.warp();
    const Place place{warp % kChannelGroups * 16, warp / kChannelGroups, warp / kChannelGroups * 32};
    const HeadGate gate = head_gate(p, head);
    BlockGradients to[2];
    tile::Acc start[2];
    tile::Acc end[2];
    BlockInputs in[2];
    tile::unroll<2>([&](auto b) {
      in[b] = inputs_of(t, place, b);
      clear(to[b]);
    });
    pairs(block, p, t, place, gate, head, length, in, to, start, end);
    tile::wait_copies<0>();
    block.sync();
    through_states(block, p, t, place, in, to, start, end);
    decay_gradients(block, p, t, place, gate, head, chunk, to);
    ends(block, p, t, place, head, chunk, in, to);
  }

 private:
  template <class T>
  DT_DEVICE static tile::GTile<T> rows_of(T* x, int heads, int head, int width, const ChunkEntry& chunk) {
    return tile::GTile<T>(x + (chunk.first_row * heads + head) * width, static_cast<int64_t>(heads) * width,
                          chunk.length, width);
  }
  template <class T>
  DT_DEVICE static tile::GTile<T> work_of(T* x, const Params& p, const tile::Block& block, int rows, int width) {
    const int64_t index = record_index(block.x, block.y, p.heads);
    return tile::GTile<T>(x + index * rows * width, width, rows, width);
  }

  DT_DEVICE static void load(const tile::Block& block, const Params& p, const ChunkEntry& chunk, int head,
                             const Tiles& t) {
    const int shared_head = head / (p.HV / p.H);
    tile::copy_async(block, t.q, rows_of(p.q, p.H, shared_head, K, chunk));
    tile::copy_async(block, t.k, rows_of(p.k, p.H, shared_head, K, chunk));
    tile::copy_async(block, t.g, rows_of(p.g, p.HV, head, K, chunk));
    tile::commit_copies();
    tile::copy_async_raw(block, t.A, p.A + record_index(block.x, head, p.HV) * (C * C));
    tile::copy_async(block, t.lam, work_of(p.dv2, p, block, C, V));
    tile::copy_async(block, t.v_new, work_of(p.v_new, p, block, C, V));
    if (p.d_o != nullptr) {
      tile::copy_async(block, t.d_o, rows_of(p.d_o, p.HV, head, V, chunk));
    }
    tile::copy_async(block, t.v, rows_of(p.v, p.HV, head, V, chunk));
    tile::commit_copies();
    tile::copy_async(block, t.h, work_of(p.h, p, block, V, K));
    tile::copy_async(block, t.dS, work_of(p.dS, p, block, V, K));
    tile::commit_copies();
    if (p.d_o == nullptr) {
      block.fill(t.d_o, [](int, int) { return 0.0F; });
    }
    const auto raw = rows_of(p.beta, p.HV, head, 1, chunk);
    block.each(C, [&](int i) {
      float x = 0.0F;
      if (i < chunk.length) {
        x = p.beta_sigmoid ? p.beta_factor * tile::sigmoid(raw(i, 0)) : raw(i, 0);
      }
      t.beta.set(0, i, x);
    });
  }

  DT_DEVICE static HeadGate head_gate(const Params& p, int head) {
    HeadGate gate;
    gate.gate = p.gate;
    gate.a = p.A_log != nullptr ? expf(p.A_log[head]) : 1.0F;
    gate.lower_bound = p.lower_bound;
    return gate;
  }

  /// Rows become x r, r = (x.x + 1e-6)^-1/2.
  DT_DEVICE static void normalise(const tile::Block& block, const TokensK& x, const PerToken& norm) {
    constexpr int kOwn = K / tile::kLanes;
    block.each_warp(C, [&](int row) {
      tile::PerLane<float, kOwn> own;
      const float sum = tile::warp_sum([&](int lane) {
        const auto values = x.template read<kOwn>(row, lane * kOwn);
        float squares = 0.0F;
        tile::unroll<kOwn>([&](auto i) {
          own(lane, i) = values[i];
          squares += values[i] * values[i];
        });
        return squares;
      });
      const float r = 1.0F / sqrtf(sum + 1e-6F);
      tile::each_lane([&](int lane) {
        tile::Values<float, kOwn> values;
        tile::unroll<kOwn>([&](auto i) { values[i] = own(lane, i) * r; });
        x.template write<kOwn>(row, lane * kOwn, values);
      });
      tile::one_lane([&] { norm.set(0, row, r); });
    });
  }

  /// Lam = A' dv2, in the place of dv2; dv = beta Lam in the place of v; shares of Lam . v.
  DT_DEVICE static void solve_adjoint(const tile::Block& block, const Params& /*p*/, const Tiles& t) {
    constexpr int kBlocks = kLamColumns / 16;
    const auto shares = block.shared<LamShares>(kLamShares);
    const int token = block.warp() % kRowBlocks * 16;
    const int group = block.warp() / kRowBlocks;
    tile::Acc lam[kBlocks];
    tile::unroll<kBlocks>([&](auto n) { tile::fill(lam[n], 0.0F); });
    for (int i = token; i < C; i += 16) {  // A is lower triangular
      const tile::FragA a = tile::load_a_trans(t.A, i, token);
      tile::unroll<kBlocks>([&](auto n) { tile::mma(lam[n], a, tile::load_b(t.lam, i, group * kLamColumns + 16 * n)); });
    }
    block.sync();
    tile::RowVec dbeta;
    tile::fill(dbeta, 0.0F);
    tile::unroll<kBlocks>([&](auto n) {
      const int col = group * kLamColumns + 16 * n;
      tile::store(t.lam, token, col, lam[n]);
      tile::each_lane([&](int lane) {
        tile::unroll<4>([&](auto r) {
          const tile::Place at = tile::Acc::place(lane, 2 * r);
          const int row = token + at.row;
          const auto v = t.v.template read<2>(row, col + at.col);
          const float beta = t.beta(0, row);
          tile::Values<float, 2> dv;
          tile::unroll<2>([&](auto j) {
            dbeta.x(lane, r % 2) += lam[n].x(lane, 2 * r + j) * v[j];
            dv[j] = beta * lam[n].x(lane, 2 * r + j);
          });
          t.v.template write<2>(row, col + at.col, dv);
        });
      });
    });
    tile::finish(dbeta);
    tile::each_once(dbeta, [&](int row, float x) { shares.set(group, token + row, x); });
    block.sync();
  }

  /// dP and dM, lower triangles; the diagonal of dP by itself.
  DT_DEVICE static void pair_gradients(const tile::Block& block, const Params& p, const Tiles& t) {
    constexpr int kTasks = kRowBlocks * (kRowBlocks + 1) / 2;
    block.each_warp(2 * kTasks, [&](int task) {
      const bool of_M = task < kTasks;
      int row = 0;
      int col = of_M ? task : task - kTasks;
      while (col > row) {
        ++row;
        col -= row;
      }
      row *= 16;
      col *= 16;
      tile::Acc sum = tile::zeros();
      tile::unroll<V / 16>([&](auto x) {
        const tile::FragA a = of_M ? tile::load_a(t.lam, row, 16 * x) : tile::load_a(t.d_o, row, 16 * x);
        tile::mma(sum, a, tile::load_b_trans(t.v_new, col, 16 * x));
      });
      const float factor = of_M ? -1.0F : p.scale;
      tile::each(sum, [&](int i, int j, float& x) {
        x *= factor;
        if (!of_M && row + i == col + j) {
          t.diagonal.set(0, row + i, x);
        }
        x = row + i > col + j ? x : 0.0F;
      });
      tile::store(of_M ? t.dM : t.dP, row, col, sum);
    });
  }

  DT_DEVICE static BlockInputs inputs_of(const Tiles& t, const Place& place, int b) {
    const int token = place.token + 16 * b;
    BlockInputs in{tile::load_a_trans(t.q, token, place.channel), tile::load_a_trans(t.k, token, place.channel), {}};
    tile::each(in.beta, [&](int col, float& x) { x = t.beta(0, token + col); });
    return in;
  }

  /// Log decays of a block of tokens; 0 beyond the end of the sequence.
  DT_DEVICE static tile::Acc decays_of(const Params& p, const Tiles& t, const Place& place, const HeadGate& gate,
                                       int head, int length, int b) {
    const int token = place.token + 16 * b;
    const tile::FragA raw = tile::load_a_trans(t.g, token, place.channel);
    tile::Acc g;
    tile::each_lane([&](int lane) {
      tile::unroll<8>([&](auto i) {
        const tile::Place at = tile::Acc::place(lane, i);
        const float bias = bias_of(p, head, place.channel + at.row);
        g.x(lane, i) = token + at.col < length ? log2_decay(gate, value_of(raw, lane, i), bias) : 0.0F;
      });
    });
    return g;
  }
  DT_DEVICE static float bias_of(const Params& p, int head, int channel) {
    return p.dt_bias != nullptr ? p.dt_bias[static_cast<int64_t>(head) * K + channel] : 0.0F;
  }

  /// Phase 4. `start` and `end` become the log decays from the chunk's first token through each token, and from behind
  /// it to the chunk's last.
  DT_DEVICE static void pairs(const tile::Block& block, const Params& p, const Tiles& t, const Place& place,
                              const HeadGate& gate, int head, int length, const BlockInputs (&in)[2],
                              BlockGradients (&to)[2], tile::Acc (&start)[2], tile::Acc (&end)[2]) {
    tile::PerLane<float, 2> total[2];
    tile::unroll<2>([&](auto b) {
      const tile::Acc g = decays_of(p, t, place, gate, head, length, b);
      const Ladder ladder = add_pairs_of_16(to[b], in[b], g, t.dP, t.dM, t.diagonal, place.token + 16 * b);
      start[b] = ladder.start;
      end[b] = ladder.end;
      tile::each_lane([&](int lane) {
        tile::unroll<2>([&](auto r) { total[b](lane, r) = ladder.total(lane, r); });
      });
    });
    const int left = place.token;
    const tile::FragA left_hat[1] = {left_factors(in[0], end[0])};
    const RightFactors right_hat[1] = {right_factors(in[1], start[1])};
    add_from_left<1>(to[1], in[1], start[1], left_hat, t.dP, t.dM, left + 16, left);
    add_from_right<1>(to[0], in[0], end[0], right_hat, t.dP, t.dM, left + 16, left);
    add_to_rows(start[1], total[0]);
    add_to_rows(end[0], total[1]);
    if constexpr (kHalves == 2) {
      pairs_of_halves(block, t, place, in, to, start, end, total);
    }
  }

  /// The pairs of one half's tokens with the other's: factors travel between the two warps of the same channels.
  DT_DEVICE static void pairs_of_halves(const tile::Block& block, const Tiles& t, const Place& place,
                                        const BlockInputs (&in)[2], BlockGradients (&to)[2], tile::Acc (&start)[2],
                                        tile::Acc (&end)[2], const tile::PerLane<float, 2> (&total)[2]) {
    const auto totals = block.shared<PerChannel>(kTotals);
    const auto box = block.shared<tile::STile<uint32_t, 3 * kWarps * tile::kLanes, 4>>(kMail);
    const int group = place.channel / 16;
    const auto slot = [&](int kind, int b, int lane) { return ((group * 3 + kind) * 2 + b) * tile::kLanes + lane; };
    const auto post = [&](int kind, int b, const tile::FragA& a) {
      tile::each_lane([&](int lane) {
        box.template write<4>(slot(kind, b, lane), 0, {{a.x(lane, 0), a.x(lane, 1), a.x(lane, 2), a.x(lane, 3)}});
      });
    };
    const auto fetch = [&](int kind, int b) {
      tile::FragA a;
      tile::each_lane([&](int lane) {
        const auto words = box.template read<4>(slot(kind, b, lane), 0);
        tile::unroll<4>([&](auto r) { a.x(lane, r) = words[r]; });
      });
      return a;
    };
    tile::each_lane([&](int lane) {
      if (lane % 4 == 0) {
        tile::unroll<2>([&](auto r) {
          totals.set(place.half, place.channel + lane / 4 + 8 * r, total[0](lane, r) + total[1](lane, r));
        });
      }
    });
    tile::unroll<2>([&](auto b) {
      if (place.half == 0) {
        post(0, b, left_factors(in[b], end[b]));
      } else {
        const RightFactors hat = right_factors(in[b], start[b]);
        post(1, b, hat.q);
        post(2, b, hat.k);
      }
    });
    block.sync();
    if (place.half == 0) {
      const RightFactors hat[2] = {{fetch(1, 0), fetch(2, 0)}, {fetch(1, 1), fetch(2, 1)}};
      tile::unroll<2>([&](auto b) { add_from_right<2>(to[b], in[b], end[b], hat, t.dP, t.dM, 32, 16 * b); });
    } else {
      const tile::FragA hat[2] = {fetch(0, 0), fetch(0, 1)};
      tile::unroll<2>([&](auto b) { add_from_left<2>(to[b], in[b], start[b], hat, t.dP, t.dM, 32 + 16 * b, 0); });
    }
    tile::PerLane<float, 2> other;
    tile::each_lane([&](int lane) {
      tile::unroll<2>(
          [&](auto r) { other(lane, r) = totals(1 - place.half, place.channel + lane / 4 + 8 * r); });
    });
    tile::unroll<2>([&](auto b) { add_to_rows(place.half == 0 ? end[b] : start[b], other); });
  }

  /// Phase 5: what tokens read of the state before the chunk, what they leave in the one after it, and what passes by.
  DT_DEVICE static void through_states(const tile::Block& block, const Params& p, const Tiles& t, const Place& place,
                                       const BlockInputs (&in)[2], BlockGradients (&to)[2],
                                       const tile::Acc (&start)[2], const tile::Acc (&end)[2]) {
    tile::Acc sum[2] = {tile::zeros(), tile::zeros()};
    product(sum, t.h, t.d_o, place);
    tile::unroll<2>([&](auto b) {
      tile::each_lane([&](int lane) {
        tile::unroll<8>([&](auto i) {
          const float dq = p.scale * tile::ex2(start[b].x(lane, i)) * sum[b].x(lane, i);
          to[b].dq.x(lane, i) += dq;
          to[b].dG.x(lane, i) += value_of(in[b].q, lane, i) * dq;
        });
      });
      tile::fill(sum[b], 0.0F);
    });
    product(sum, t.h, t.lam, place);
    tile::unroll<2>([&](auto b) {
      tile::each_lane([&](int lane) {
        tile::unroll<8>([&](auto i) {
          const float read = tile::ex2(start[b].x(lane, i)) * sum[b].x(lane, i);
          const float k = value_of(in[b].k, lane, i);
          const float beta = in[b].beta.x(lane, tile::ColVec::of(i));
          to[b].dk.x(lane, i) -= beta * read;
          to[b].dbeta.x(lane, tile::ColVec::of(i)) -= k * read;
          to[b].dG.x(lane, i) -= beta * k * read;
        });
      });
      tile::fill(sum[b], 0.0F);
    });
    product(sum, t.dS, t.v_new, place);
    tile::RowVec last;  // of dG at the chunk's end
    tile::fill(last, 0.0F);
    tile::unroll<2>([&](auto b) {
      tile::each_lane([&](int lane) {
        tile::unroll<8>([&](auto i) {
          const float dkg = tile::ex2(end[b].x(lane, i)) * sum[b].x(lane, i);
          const float in_g = value_of(in[b].k, lane, i) * dkg;
          to[b].dk.x(lane, i) += dkg;
          to[b].dG.x(lane, i) -= in_g;
          last.x(lane, tile::RowVec::of(i)) += in_g;
        });
      });
    });
    add_passing(last, t, place, start[0], end[0]);
    tile::finish(last);
    const auto lasts = block.shared<PerChannel>(kLast);
    tile::each_once(last, [&](int row, float x) { lasts.set(place.half, place.channel + row, x); });
  }

  /// sum[b] += S^T x^T for the warp's channels and tokens.
  DT_DEVICE static void product(tile::Acc (&sum)[2], const State& S, const TokensV& x, const Place& place) {
    tile::unroll<V / 16>([&](auto v) {
      const tile::FragA a = tile::load_a_trans(S, 16 * v, place.channel);
      tile::unroll<2>([&](auto b) { tile::mma(sum[b], a, tile::load_b_trans(x, place.token + 16 * b, 16 * v)); });
    });
  }

  /// 2^G_last rowsum(h dS); each half takes its share of V.
  DT_DEVICE static void add_passing(tile::RowVec& last, const Tiles& t, const Place& place, const tile::Acc& start,
                                    const tile::Acc& end) {
    constexpr int kShare = V / 16 / kHalves;
    tile::RowVec sum;
    tile::fill(sum, 0.0F);
    tile::unroll<kShare>([&](auto v) {
      const int row = 16 * (place.half * kShare + v);
      const tile::FragA h = tile::load_a_trans(t.h, row, place.channel);
      const tile::FragA dS = tile::load_a_trans(t.dS, row, place.channel);
      tile::each_lane([&](int lane) {
        tile::unroll<8>([&](auto i) {
          sum.x(lane, tile::RowVec::of(i)) += value_of(h, lane, i) * value_of(dS, lane, i);
        });
      });
    });
    tile::each_lane([&](int lane) {
      tile::unroll<2>([&](auto r) {  // any token's start and end make the whole chunk
        last.x(lane, r) += tile::ex2(start.x(lane, 2 * r) + end.x(lane, 2 * r)) * sum.x(lane, r);
      });
    });
  }

  /// dG to dg: sums from the chunk's end back, the gate's derivative, and the chunk's shares of its parameters.
  DT_DEVICE static void decay_gradients(const tile::Block& block, const Params& p, const Tiles& t, const Place& place,
                                        const HeadGate& gate, int head, const ChunkEntry& chunk,
                                        BlockGradients (&to)[2]) {
    const auto lasts = block.shared<PerChannel>(kLast);
    const auto halves = block.shared<PerChannel>(kHalfTotals);
    tile::PerLane<float, 2> behind;  // of the tokens behind a block
    tile::each_lane([&](int lane) {
      behind(lane, 0) = 0.0F;
      behind(lane, 1) = 0.0F;
    });
    tile::unroll<2>([&](auto back) {
      constexpr int b = 1 - decltype(back)::value;
      sum_back(to[b].dG, behind);
    });
    tile::each_lane([&](int lane) {
      if (lane % 4 == 0) {
        tile::unroll<2>([&](auto r) { halves.set(place.half, place.channel + lane / 4 + 8 * r, behind(lane, r)); });
      }
    });
    block.sync();
    tile::PerLane<float, 2> rest;
    tile::each_lane([&](int lane) {
      tile::unroll<2>([&](auto r) {
        const int channel = place.channel + lane / 4 + 8 * r;
        float x = lasts(0, channel);
        if constexpr (kHalves == 2) {
          x += lasts(1, channel);
          x += place.half == 0 ? halves(1, channel) : 0.0F;
        }
        rest(lane, r) = x;
      });
    });
    tile::RowVec of_bias;
    tile::RowVec of_A;
    tile::fill(of_bias, 0.0F);
    tile::fill(of_A, 0.0F);
    tile::FragA raw[2];
    tile::unroll<2>([&](auto b) { raw[b] = tile::load_a_trans(t.g, place.token + 16 * b, place.channel); });
    tile::sync_warp();
    tile::unroll<2>([&](auto b) {
      const int token = place.token + 16 * b;
      tile::each_lane([&](int lane) {
        tile::unroll<8>([&](auto i) {
          const tile::Place at = tile::Acc::place(lane, i);
          constexpr int row = tile::RowVec::of(i);
          const float dy = to[b].dG.x(lane, i) + rest(lane, row);
          const float bias = bias_of(p, head, place.channel + at.row);
          const GateGradient d = gate_gradient(gate, value_of(raw[b], lane, i), bias, dy);
          const bool real = token + at.col < chunk.length;
          to[b].dG.x(lane, i) = d.dx;
          of_bias.x(lane, row) += real ? d.dbias : 0.0F;
          of_A.x(lane, row) += real ? d.dA : 0.0F;
        });
      });
      tile::store_trans(t.g, token, place.channel, to[b].dG);
    });
    if (p.gate_sums != nullptr) {
      const auto sums = block.shared<GateShares>(kGateShares);
      tile::finish(of_bias);
      tile::finish(of_A);
      tile::each_once(of_bias, [&](int row, float x) { sums.set(2 * place.half, place.channel + row, x); });
      tile::each_once(of_A, [&](int row, float x) { sums.set(2 * place.half + 1, place.channel + row, x); });
    }
  }

  /// x becomes its sums over the columns from each one to the block's end, plus `behind`; behind then is the whole sum.
  DT_DEVICE static void sum_back(tile::Acc& x, tile::PerLane<float, 2>& behind) {
    tile::PerLane<float, 4> total;  // of the columns of a piece, as in Ladder
    tile::each_lane([&](int lane) {
      tile::unroll<4>([&](auto q) {
        x.x(lane, 2 * q) += x.x(lane, 2 * q + 1);
        total(lane, q) = x.x(lane, 2 * q);
      });
    });
    const auto join = [&](auto bit) {
      const tile::PerLane<float, 4> other = tile::shuffle_xor(total, bit);
      tile::each_lane([&](int lane) {
        const bool left = (lane & bit) == 0;
        tile::unroll<4>([&](auto q) {
          tile::unroll<2>([&](auto i) { x.x(lane, 2 * q + i) += left ? other(lane, q) : 0.0F; });
          total(lane, q) += other(lane, q);
        });
      });
    };
    join(std::integral_constant<int, 1>{});
    join(std::integral_constant<int, 2>{});
    tile::each_lane([&](int lane) {
      tile::unroll<2>([&](auto r) {
        const float right = behind(lane, r) + total(lane, 2 + r);
        tile::unroll<2>([&](auto i) {
          x.x(lane, 4 + 2 * r + i) += behind(lane, r);
          x.x(lane, 2 * r + i) += right;
        });
        behind(lane, r) = right + total(lane, r);
      });
    });
  }

  /// Phase 6: sums over channels, the norm's and the sigmoid's derivative, and the stores.
  DT_DEVICE static void ends(const tile::Block& block, const Params& p, const Tiles& t, const Place& place, int head,
                             const ChunkEntry& chunk, const BlockInputs (&in)[2], BlockGradients (&to)[2]) {
    const auto shares = block.shared<Shares>(kShares);
    const auto sums = block.shared<Sums>(kSums);
    const auto lam = block.shared<LamShares>(kLamShares);
    const bool whole = p.dq_parts == nullptr && p.dk_parts == nullptr;  // one value head per head of q
    const bool norm = p.l2norm && whole;
    const int group = place.channel / 16;
    tile::unroll<2>([&](auto b) {
      const int token = place.token + 16 * b;
      const auto share = [&](int kind, tile::ColVec& x) {
        tile::finish(x);
        tile::each_once(x, [&](int col, float y) { shares.set(kind * kChannelGroups + group, token + col, y); });
      };
      if (norm) {
        tile::ColVec dots;
        tile::fill(dots, 0.0F);
        dot(dots, in[b].q, to[b].dq);
        share(0, dots);
        tile::fill(dots, 0.0F);
        dot(dots, in[b].k, to[b].dk);
        share(1, dots);
      }
      share(2, to[b].dbeta);
    });
    block.sync();
    const auto sum_of = [&](int kind, int token) {
      float sum = 0.0F;
      for (int i = 0; i < kChannelGroups; ++i) {
        sum += shares(kind * kChannelGroups + i, token);
      }
      return sum;
    };
    if (norm) {
      block.each(2 * C, [&](int i) { sums.set(i / C, i % C, sum_of(i / C, i % C)); });
    }
    if (p.dbeta != nullptr) {
      const auto raw = rows_of(p.beta, p.HV, head, 1, chunk);
      const auto out = rows_of(p.dbeta, p.HV, head, 1, chunk);
      block.each(chunk.length, [&](int i) {
        float x = sum_of(2, i);
        for (int c = 0; c < kColumnGroups; ++c) {
          x += lam(c, i);
        }
        if (p.beta_sigmoid) {
          x *= p.beta_factor * tile::sigmoid(raw(i, 0)) * tile::sigmoid(-raw(i, 0));
        }
        out.set(i, 0, x);
      });
    }
    if (p.gate_sums != nullptr) {
      const auto gate = block.shared<GateShares>(kGateShares);
      const auto out = work_of(p.gate_sums, p, block, 2, K);
      block.each(2 * K, [&](int i) {
        float x = gate(i / K, i % K);
        if constexpr (kHalves == 2) {
          x += gate(2 + i / K, i % K);
        }
        out.set(i / K, i % K, x);
      });
    }
    if (p.dg != nullptr) {
      tile::store(block, rows_of(p.dg, p.HV, head, K, chunk), t.g);
    }
    if (!whole) {
      tile::unroll<2>([&](auto b) {
        store_part(p.dq_parts, p, block, place, chunk, b, to[b].dq);
        store_part(p.dk_parts, p, block, place, chunk, b, to[b].dk);
      });
      return;
    }
    if (norm) {
      block.sync();
      tile::unroll<2>([&](auto b) {
        through_norm(to[b].dq, in[b].q, t.q_norm, sums, 0, place.token + 16 * b);
        through_norm(to[b].dk, in[b].k, t.k_norm, sums, 1, place.token + 16 * b);
      });
    }
    tile::unroll<2>([&](auto b) {
      tile::store_trans(t.q, place.token + 16 * b, place.channel, to[b].dq);
      tile::store_trans(t.k, place.token + 16 * b, place.channel, to[b].dk);
    });
    block.sync();
    if (p.dq != nullptr) {
      tile::store(block, rows_of(p.dq, p.H, head, K, chunk), t.q);
    }
    if (p.dk != nullptr) {
      tile::store(block, rows_of(p.dk, p.H, head, K, chunk), t.k);
    }
  }

  DT_DEVICE static void dot(tile::ColVec& sum, const tile::FragA& y, const tile::Acc& dy) {
    tile::each_lane([&](int lane) {
      tile::unroll<8>(
          [&](auto i) { sum.x(lane, tile::ColVec::of(i)) += value_of(y, lane, i) * dy.x(lane, i); });
    });
  }
  /// dx = r (dy - y (y . dy)).
  DT_DEVICE static void through_norm(tile::Acc& dy, const tile::FragA& y, const PerToken& norm, const Sums& dots,
                                     int kind, int token) {
    tile::each_lane([&](int lane) {
      tile::unroll<8>([&](auto i) {
        const int at = token + tile::Acc::place(lane, i).col;
        dy.x(lane, i) = norm(0, at) * (dy.x(lane, i) - value_of(y, lane, i) * dots(kind, at));
      });
    });
  }
  DT_DEVICE static void store_part(float* to, const Params& p, const tile::Block& block, const Place& place,
                                   const ChunkEntry& chunk, int b, const tile::Acc& x) {
    if (to == nullptr) {
      return;
    }
    const auto rows = rows_of(to, p.heads, block.y, K, chunk);
    tile::each_lane([&](int lane) {
      tile::unroll<8>([&](auto i) {
        const tile::Place at = tile::Acc::place(lane, i);
        const int token = place.token + 16 * b + at.col;
        if (token < chunk.length) {
          rows.set(token, place.channel + at.row, x.x(lane, i));
        }
      });
    });
  }
};

}  // namespace deltatape::cuda::kda::v1
