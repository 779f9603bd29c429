// B3: all that is local to a chunk, for one value head: from the states before it and the gradient of the state after
// it to dq, dk, dv, dg, dbeta and the chunk's shares of dA_log and ddt_bias.
//
//   phase                          who holds what                                     barriers
//   1 norm of q and k              a warp a row                                       1
//   2 Lam = A' dv2, dv, Lam . v    a warp 16 tokens x V / column groups               2
//   3 dP = scale tril(do v_new')   tasks of 16 x 16, split over the warps             1
//     dM = -stril(Lam v_new')
//   4 pairs of tokens              a warp 16 channels x all tokens, in registers      -
//   5 through the states           the same registers                                 1
//   6 dg, gate, norm, sigmoid      the same registers, then whole rows                2 to 3
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

/// What B3 reads and writes: the value heads [first_head, first_head + heads) of a launch. "Rows" are tokens,
/// row * T + t. Each of the results may be null.
struct MainArguments {
  const ChunkEntry* chunks = nullptr;
  int H = 1;   // heads of q and k
  int HV = 1;  // value heads
  int first_head = 0;
  int heads = 1;
  const BFloat16* q = nullptr;     // [rows,H,K]
  const BFloat16* k = nullptr;     // [rows,H,K]
  const BFloat16* v = nullptr;     // [rows,HV,V]
  const BFloat16* g = nullptr;     // [rows,HV,K]
  const BFloat16* beta = nullptr;  // [rows,HV]
  const BFloat16* d_o = nullptr;   // [rows,HV,V] or null: zeros
  const float* A_log = nullptr;    // [HV] or null
  const float* dt_bias = nullptr;  // [HV,K] or null
  const BFloat16* A = nullptr;     // images [chunks,A_heads,C,C]; the launch's first head is its A_first
  int A_heads = 1;
  int A_first = 0;
  const BFloat16* h = nullptr;      // [chunks,heads,V,K], states before the chunks
  const BFloat16* dS = nullptr;     // [chunks,heads,V,K], gradients of the states after them
  const BFloat16* v_new = nullptr;  // [rows,heads,V]
  const BFloat16* dv2 = nullptr;    // [rows,heads,V]
  float scale = 1.0F;
  Gate gate = Gate::none;
  float lower_bound = 0.0F;
  bool l2norm = false;
  bool beta_sigmoid = false;
  float beta_factor = 1.0F;
  BFloat16* dq = nullptr;     // [rows,H,K]
  BFloat16* dk = nullptr;     // [rows,H,K]
  BFloat16* dv = nullptr;     // [rows,HV,V]
  BFloat16* dg = nullptr;     // [rows,HV,K]
  BFloat16* dbeta = nullptr;  // [rows,HV]
  float* dq_parts =
      nullptr;  // [rows,heads,K]: where several value heads share a head of q, instead of dq; B4 sums them
  float* dk_parts = nullptr;   // likewise
  float* gate_sums = nullptr;  // [chunks,heads,2,K]: shares of ddt_bias; of dA_log
};

/// `same_factors`: see BlockGradients.
template <int C, int K, int V, bool same_factors = true>
struct BackwardMain {
  using Params = MainArguments;

  static constexpr int kBlocks = C / 16;  // of the tokens
  static constexpr int kWarps = K / 16;   // each has 16 channels
  static constexpr int kBlocksPerSm = 1;
  static constexpr int kColumnGroups = kWarps / kBlocks;  // of V in phase 2
  static constexpr int kLamColumns = V / kColumnGroups;
  static_assert(C == 64 || C == 32);
  static_assert(kWarps % kBlocks == 0 && kLamColumns % 16 == 0);

  using TokensK = tile::STile<BFloat16, C, K, tile::Swizzled>;
  using TokensV = tile::STile<BFloat16, C, V, tile::Swizzled>;
  using Square = tile::STile<BFloat16, C, C, tile::Swizzled>;
  using State = tile::STile<BFloat16, V, K, tile::Swizzled>;
  using PerToken = tile::SRow<float, C>;
  using LamShares = tile::STile<float, kColumnGroups, C>;
  using Shares = tile::STile<float, 3 * kWarps, C>;  // of sums over channels: q . dq, k . dk, dbeta
  using Sums = tile::STile<float, 2, C>;

  using Parked = tile::STile<float, 2 * kBlocks * kWarps * tile::kLanes, 4>;  // `start`, each lane its own

  static constexpr int kQ = 0;
  static constexpr int kKeys = kQ + TokensK::kBytes;
  static constexpr int kG = kKeys + TokensK::kBytes;
  static constexpr int kV = kG + TokensK::kBytes;  // then dv
  static constexpr int kDo = kV + TokensV::kBytes;
  static constexpr int kVNew = kDo + TokensV::kBytes;
  static constexpr int kDv2 = kVNew + TokensV::kBytes;  // then Lam
  static constexpr int kH = kDv2 + TokensV::kBytes;
  static constexpr int kDS = kH + State::kBytes;
  static constexpr int kDP = kDS + State::kBytes;
  static constexpr int kDM = kDP + Square::kBytes;
  static constexpr int kBeta = kDM + Square::kBytes;
  static constexpr int kDiagonal = kBeta + PerToken::kBytes;
  static constexpr int kQNorm = kDiagonal + PerToken::kBytes;
  static constexpr int kKNorm = kQNorm + PerToken::kBytes;
  static constexpr int kLamShares = kKNorm + PerToken::kBytes;
  static constexpr int kA = kLamShares + LamShares::kBytes;
  static constexpr int kParked = kA;  // A is needed for Lam only
  static constexpr int kAfterLam = Parked::kBytes > Square::kBytes ? Parked::kBytes : Square::kBytes;
  static constexpr int kSharedBytes = kA + kAfterLam;
  // In the place of dP and dM, which are last read before the barrier of phase 5.
  static constexpr int kShares = kDP;
  static constexpr int kSums = kShares + Shares::kBytes;
  static_assert(kSums + Sums::kBytes <= kBeta);

  /// Registers of a warp: gradients; log decays from behind each token to the last of its piece (end), the piece being
  /// 16 tokens at first and the chunk in the end. `start`, from the first of 16 tokens through each, is parked in
  /// shared memory.
  struct Registers {
    BlockGradients<same_factors> to[kBlocks];
    tile::Acc end[kBlocks];
  };
  struct Tiles {
    TokensK q, k, g;
    TokensV v, d_o, v_new, lam;
    State h, dS;
    Square A, dP, dM;
    PerToken beta, diagonal, q_norm, k_norm;
  };
  DT_DEVICE static Tiles tiles_of(const tile::Block& block) {
    return {block.shared<TokensK>(kQ),     block.shared<TokensK>(kKeys),      block.shared<TokensK>(kG),
            block.shared<TokensV>(kV),     block.shared<TokensV>(kDo),        block.shared<TokensV>(kVNew),
            block.shared<TokensV>(kDv2),   block.shared<State>(kH),           block.shared<State>(kDS),
            block.shared<Square>(kA),      block.shared<Square>(kDP),         block.shared<Square>(kDM),
            block.shared<PerToken>(kBeta), block.shared<PerToken>(kDiagonal), block.shared<PerToken>(kQNorm),
            block.shared<PerToken>(kKNorm)};
  }

  DT_DEVICE void operator()(const tile::Block& block, const Params& p) const {
    const ChunkEntry chunk = p.chunks[block.x / p.heads];
    const int length = chunk.length;
    const int head = p.first_head + block.x % p.heads;
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

    const HeadGate gate = head_gate(p, head);
    const int channel = 16 * block.warp();
    Registers r;
    pairs(block, p, t, channel, gate, head, length, r);
    tile::wait_copies<0>();
    block.sync();
    const tile::RowVec last = through_states(block, p, t, channel, length, r);
    decay_gradients(p, t, channel, gate, head, chunk, block, last, r);
    ends(block, p, t, channel, head, chunk, r);
  }

 private:
  template <class T>
  DT_DEVICE static tile::GTile<T> rows_of(T* x, int heads, int head, int width, const ChunkEntry& chunk) {
    return tile::GTile<T>(x + (chunk.first_row * heads + head) * width, static_cast<int64_t>(heads) * width,
                          chunk.length, width);
  }
  template <class T>
  DT_DEVICE static tile::GTile<T> work_of(T* x, const tile::Block& block, int rows, int width) {
    return tile::GTile<T>(x + int64_t{block.x} * rows * width, width, rows, width);
  }

  DT_DEVICE static void load(const tile::Block& block, const Params& p, const ChunkEntry& chunk, int head,
                             const Tiles& t) {
    const int shared_head = head / (p.HV / p.H);
    const int own = head - p.first_head;
    tile::copy_async(block, t.q, rows_of(p.q, p.H, shared_head, K, chunk));
    tile::copy_async(block, t.k, rows_of(p.k, p.H, shared_head, K, chunk));
    tile::copy_async(block, t.g, rows_of(p.g, p.HV, head, K, chunk));
    tile::commit_copies();
    tile::copy_async_raw(block, t.A, p.A + record_index(block.x / p.heads, p.A_first + own, p.A_heads) * (C * C));
    tile::copy_async(block, t.lam, rows_of(p.dv2, p.heads, own, V, chunk));
    tile::copy_async(block, t.v_new, rows_of(p.v_new, p.heads, own, V, chunk));
    if (p.d_o != nullptr) {
      tile::copy_async(block, t.d_o, rows_of(p.d_o, p.HV, head, V, chunk));
    }
    tile::copy_async(block, t.v, rows_of(p.v, p.HV, head, V, chunk));
    tile::commit_copies();
    tile::copy_async(block, t.h, work_of(p.h, block, V, K));
    tile::copy_async(block, t.dS, work_of(p.dS, block, V, K));
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
    constexpr int kTiles = kLamColumns / 16;
    const auto shares = block.shared<LamShares>(kLamShares);
    const int token = block.warp() % kBlocks * 16;
    const int group = block.warp() / kBlocks;
    tile::Acc lam[kTiles];
    tile::unroll<kTiles>([&](auto n) { tile::fill(lam[n], 0.0F); });
    for (int i = token; i < C; i += 16) {  // A is lower triangular
      const tile::FragA a = tile::load_a_trans(t.A, i, token);
      tile::unroll<kTiles>([&](auto n) { tile::mma(lam[n], a, tile::load_b(t.lam, i, group * kLamColumns + 16 * n)); });
    }
    block.sync();
    tile::RowVec dbeta;
    tile::fill(dbeta, 0.0F);
    tile::unroll<kTiles>([&](auto n) {
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
    constexpr int kTasks = kBlocks * (kBlocks + 1) / 2;
    block.each_warp(2 * kTasks, [&](int task) {
      int row = 0;
      int col = task < kTasks ? task : task - kTasks;
      while (col > row) {
        ++row;
        col -= row;
      }
      if (task < kTasks) {
        store_pairs(t.dM, t.lam, t.v_new, 16 * row, 16 * col, -1.0F, [](int, float) {});
      } else {
        store_pairs(t.dP, t.d_o, t.v_new, 16 * row, 16 * col, p.scale,
                    [&](int token, float x) { t.diagonal.set(0, token, x); });
      }
    });
  }
  /// A square of factor x y^T: strictly lower elements to `to`, those of the diagonal to `diagonal`.
  template <class F>
  DT_DEVICE static void store_pairs(const Square& to, const TokensV& x, const TokensV& y, int row, int col,
                                    float factor, F&& diagonal) {
    tile::Acc sum = tile::zeros();
    tile::roll(V / 16,
               [&](int v) { tile::mma(sum, tile::load_a(x, row, 16 * v), tile::load_b_trans(y, col, 16 * v)); });
    tile::each(sum, [&](int i, int j, float& z) {
      z *= factor;
      if (row + i == col + j) {
        diagonal(row + i, z);
      }
      z = row + i > col + j ? z : 0.0F;
    });
    tile::store(to, row, col, sum);
  }

  /// Loaded again wherever they are needed: registers are short.
  DT_DEVICE static BlockInputs inputs_of(const Tiles& t, int channel, int block) {
    const int token = 16 * block;
    BlockInputs in{tile::load_a_trans(t.q, token, channel), tile::load_a_trans(t.k, token, channel), {}};
    tile::each(in.beta, [&](int col, float& x) { x = t.beta(0, token + col); });
    return in;
  }

  /// Log decays of a block of tokens; 0 beyond the end of the sequence.
  DT_DEVICE static tile::Acc decays_of(const Params& p, const Tiles& t, int channel, const HeadGate& gate, int head,
                                       int length, int block) {
    const tile::FragA raw = tile::load_a_trans(t.g, 16 * block, channel);
    tile::Acc g;
    tile::each_lane([&](int lane) {
      tile::unroll<8>([&](auto i) {
        const tile::Place at = tile::Acc::place(lane, i);
        const float bias = bias_of(p, head, channel + at.row);
        g.x(lane, i) = 16 * block + at.col < length ? log2_decay(gate, value_of(raw, lane, i), bias) : 0.0F;
      });
    });
    return g;
  }
  DT_DEVICE static float bias_of(const Params& p, int head, int channel) {
    return p.dt_bias != nullptr ? p.dt_bias[static_cast<int64_t>(head) * K + channel] : 0.0F;
  }

  /// Phase 4: blocks by themselves, then pairs of blocks, then both halves of four.
  DT_DEVICE static void pairs(const tile::Block& block, const Params& p, const Tiles& t, int channel,
                              const HeadGate& gate, int head, int length, Registers& r) {
    // Blocks beyond the sequence's end have nothing to give. (The branches also keep ptxas from mixing the blocks'
    // code.)
    tile::unroll<kBlocks>([&](auto b) {
      clear(r.to[b]);
      tile::fill(r.end[b], 0.0F);
      if (16 * b < length) {
        const tile::Acc g = decays_of(p, t, channel, gate, head, length, b);
        const Ladder ladder = add_pairs_of_16(r.to[b], inputs_of(t, channel, b), g, t.dP, t.dM, t.diagonal, 16 * b);
        park(block, ladder.start, b);
        r.end[b] = ladder.end;
      } else {
        park(block, r.end[b], b);
      }
    });
    tile::sync_warp();
    tile::unroll<kBlocks / 2>([&](auto pair) {
      constexpr int left = 2 * decltype(pair)::value;
      if (16 * (left + 1) < length) {
        join<1, left>(block, t, channel, r);
      }
    });
    if constexpr (kBlocks == 4) {
      if (32 < length) {
        join<2, 0>(block, t, channel, r);
      }
    }
  }
  /// The pairs of `half` left blocks from number `left` on and as many right ones behind them.
  template <int half, int left>
  DT_DEVICE static void join(const tile::Block& block, const Tiles& t, int channel, Registers& r) {
    constexpr int right = left + half;
    {
      tile::FragA hat[half];
      tile::unroll<half>([&](auto b) { hat[b] = left_factors(inputs_of(t, channel, left + b), r.end[left + b]); });
      tile::unroll<half>([&](auto b) {
        add_from_left<half>(r.to[right + b], inputs_of(t, channel, right + b), start_of<right + b, right>(block), hat,
                            t.dP, t.dM, 16 * (right + b), 16 * left);
      });
    }
    RightFactors hat[half];
    tile::unroll<half>(
        [&](auto b) { hat[b] = right_factors(inputs_of(t, channel, right + b), start_of<right + b, right>(block)); });
    tile::unroll<half>([&](auto b) {
      add_from_right<half>(r.to[left + b], inputs_of(t, channel, left + b), r.end[left + b], hat, t.dP, t.dM,
                           16 * right, 16 * (left + b));
    });
    tile::unroll<half>([&](auto b) {
      tile::unroll<half>([&](auto other) { add_to_rows(r.end[left + b], total_of(block, right + other)); });
    });
  }

  DT_DEVICE static void park(const tile::Block& block, const tile::Acc& start, int b) {
    const auto parked = block.shared<Parked>(kParked);
    tile::each_lane([&](int lane) {
      tile::unroll<2>([&](auto half) {
        tile::Values<float, 4> x;
        tile::unroll<4>([&](auto i) { x[i] = start.x(lane, 4 * half + i); });
        parked.template write<4>(((2 * b + half) * kWarps + block.warp()) * tile::kLanes + lane, 0, x);
      });
    });
  }
  /// The log decay of a block: the parked sum of its last token, which another lane holds.
  DT_DEVICE static tile::PerLane<float, 2> total_of(const tile::Block& block, int b) {
    const auto parked = block.shared<Parked>(kParked);
    tile::PerLane<float, 2> total;
    tile::each_lane([&](int lane) {
      const auto x = parked.template read<4>(((2 * b + 1) * kWarps + block.warp()) * tile::kLanes + (lane | 3), 0);
      total(lane, 0) = x[1];
      total(lane, 1) = x[3];
    });
    return total;
  }
  /// Log decays from the first token of block `first` through each of block b.
  template <int b, int first>
  DT_DEVICE static tile::Acc start_of(const tile::Block& block) {
    const auto parked = block.shared<Parked>(kParked);
    tile::Acc start;
    tile::each_lane([&](int lane) {
      tile::unroll<2>([&](auto half) {
        const auto x = parked.template read<4>(((2 * b + half) * kWarps + block.warp()) * tile::kLanes + lane, 0);
        tile::unroll<4>([&](auto i) { start.x(lane, 4 * half + i) = x[i]; });
      });
    });
    tile::unroll<b - first>([&](auto other) { add_to_rows(start, total_of(block, b - 1 - other)); });
    return start;
  }

  /// Phase 5: what tokens read of the state before the chunk, what they leave in the one after it, and what passes by.
  /// Gives the gradient of the log decay of the whole chunk.
  DT_DEVICE static tile::RowVec through_states(const tile::Block& block, const Params& p, const Tiles& t, int channel,
                                               int length, Registers& r) {
    const auto shares = block.shared<Shares>(kShares);
    each_product(t.h, t.d_o, channel, length, [&](auto b, const tile::Acc& sum) {
      const BlockInputs in = inputs_of(t, channel, b);
      const tile::Acc start = start_of<b, 0>(block);
      tile::each_lane([&](int lane) {
        tile::unroll<8>([&](auto i) {
          const float dq = p.scale * tile::ex2(start.x(lane, i)) * sum.x(lane, i);
          r.to[b].dq.x(lane, i) += dq;
          r.to[b].dG.x(lane, i) += value_of(in.q, lane, i) * dq;
        });
      });
    });
    each_product(t.h, t.lam, channel, length, [&](auto b, const tile::Acc& sum) {
      const BlockInputs in = inputs_of(t, channel, b);
      const tile::Acc start = start_of<b, 0>(block);
      tile::ColVec dbeta;
      tile::fill(dbeta, 0.0F);
      tile::each_lane([&](int lane) {
        tile::unroll<8>([&](auto i) {
          const float read = tile::ex2(start.x(lane, i)) * sum.x(lane, i);
          const float k = value_of(in.k, lane, i);
          const float beta = in.beta.x(lane, tile::ColVec::of(i));
          r.to[b].dk.x(lane, i) -= beta * read;
          dbeta.x(lane, tile::ColVec::of(i)) -= k * read;
          r.to[b].dG.x(lane, i) -= beta * k * read;
        });
      });
      add_shares(r.to[b].dbeta, dbeta);
      tile::each_lane([&](int lane) {
        if (lane < 16) {
          shares.set(2 * kWarps + block.warp(), 16 * b + ColSums::place(lane), r.to[b].dbeta.x(lane));
        }
      });
    });
    tile::RowVec last;
    tile::fill(last, 0.0F);
    each_product(t.dS, t.v_new, channel, length, [&](auto b, const tile::Acc& sum) {
      const BlockInputs in = inputs_of(t, channel, b);
      tile::each_lane([&](int lane) {
        tile::unroll<8>([&](auto i) {
          const float dkg = tile::ex2(r.end[b].x(lane, i)) * sum.x(lane, i);
          const float in_g = value_of(in.k, lane, i) * dkg;
          r.to[b].dk.x(lane, i) += dkg;
          r.to[b].dG.x(lane, i) -= in_g;
          last.x(lane, tile::RowVec::of(i)) += in_g;
        });
      });
    });
    tile::PerLane<float, 2> whole = total_of(block, 0);
    tile::unroll<kBlocks - 1>([&](auto b) {
      const tile::PerLane<float, 2> total = total_of(block, 1 + b);
      tile::each_lane([&](int lane) { tile::unroll<2>([&](auto row) { whole(lane, row) += total(lane, row); }); });
    });
    tile::each_lane(
        [&](int lane) { tile::unroll<2>([&](auto row) { whole(lane, row) = tile::ex2(whole(lane, row)); }); });
    add_passing(last, t, channel, whole);
    tile::finish(last);
    return last;
  }

  /// f(block, S^T x^T) for the warp's channels and each block of tokens that the sequence has; two at a time, for the
  /// sake of registers.
  template <class F>
  DT_DEVICE static void each_product(const State& S, const TokensV& x, int channel, int length, F&& f) {
    tile::unroll<kBlocks / 2>([&](auto pair) {
      constexpr int first = 2 * decltype(pair)::value;
      tile::Acc sum[2] = {tile::zeros(), tile::zeros()};
      tile::roll(V / 16, [&](int v) {
        const tile::FragA a = tile::load_a_trans(S, 16 * v, channel);
        tile::unroll<2>([&](auto b) { tile::mma(sum[b], a, tile::load_b_trans(x, 16 * (first + b), 16 * v)); });
      });
      if (16 * first < length) {
        f(std::integral_constant<int, first>{}, sum[0]);
      }
      if (16 * (first + 1) < length) {
        f(std::integral_constant<int, first + 1>{}, sum[1]);
      }
    });
  }

  /// last += decay rowsum(h dS), the lanes' shares.
  DT_DEVICE static void add_passing(tile::RowVec& last, const Tiles& t, int channel,
                                    const tile::PerLane<float, 2>& decay) {
    tile::RowVec sum;
    tile::fill(sum, 0.0F);
    tile::roll(V / 16, [&](int v) {
      const tile::FragA h = tile::load_a_trans(t.h, 16 * v, channel);
      const tile::FragA dS = tile::load_a_trans(t.dS, 16 * v, channel);
      tile::each_lane([&](int lane) {
        tile::unroll<8>(
            [&](auto i) { sum.x(lane, tile::RowVec::of(i)) += value_of(h, lane, i) * value_of(dS, lane, i); });
      });
    });
    tile::each_lane([&](int lane) {
      tile::unroll<2>([&](auto row) { last.x(lane, row) += decay(lane, row) * sum.x(lane, row); });
    });
  }

  /// dG to dg: sums from the chunk's end back, the gate's derivative, and the chunk's shares of its parameters.
  DT_DEVICE static void decay_gradients(const Params& p, const Tiles& t, int channel, const HeadGate& gate, int head,
                                        const ChunkEntry& chunk, const tile::Block& block, const tile::RowVec& last,
                                        Registers& r) {
    tile::PerLane<float, 2> behind = last.x;  // of all that comes after a block
    tile::RowVec of_bias;
    tile::RowVec of_A;
    tile::fill(of_bias, 0.0F);
    tile::fill(of_A, 0.0F);
    tile::unroll<kBlocks>([&](auto back) {
      constexpr int b = kBlocks - 1 - decltype(back)::value;
      tile::Acc& dg = r.to[b].dG;
      sum_back(dg, behind);
      const tile::FragA raw = tile::load_a_trans(t.g, 16 * b, channel);
      tile::each_lane([&](int lane) {
        tile::unroll<8>([&](auto i) {
          const tile::Place at = tile::Acc::place(lane, i);
          constexpr int row = tile::RowVec::of(i);
          const float bias = bias_of(p, head, channel + at.row);
          const GateGradient d = gate_gradient(gate, value_of(raw, lane, i), bias, dg.x(lane, i));
          const bool real = 16 * b + at.col < chunk.length;
          dg.x(lane, i) = d.dx;
          of_bias.x(lane, row) += real ? d.dbias : 0.0F;
          of_A.x(lane, row) += real ? d.dA : 0.0F;
        });
      });
      tile::sync_warp();
      tile::store_trans(t.g, 16 * b, channel, dg);
    });
    if (p.gate_sums != nullptr) {
      const auto out = work_of(p.gate_sums, block, 2, K);
      tile::finish(of_bias);
      tile::finish(of_A);
      tile::each_once(of_bias, [&](int row, float x) { out.set(0, channel + row, x); });
      tile::each_once(of_A, [&](int row, float x) { out.set(1, channel + row, x); });
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
  DT_DEVICE static void ends(const tile::Block& block, const Params& p, const Tiles& t, int channel, int head,
                             const ChunkEntry& chunk, Registers& r) {
    const auto shares = block.shared<Shares>(kShares);
    const auto sums = block.shared<Sums>(kSums);
    const bool whole = p.dq_parts == nullptr && p.dk_parts == nullptr;  // one value head per head of q
    const bool norm = p.l2norm && whole;
    tile::unroll<kBlocks>([&](auto b) {
      const auto share = [&](int kind, tile::ColVec& x) {
        tile::finish(x);
        tile::each_once(x, [&](int col, float y) { shares.set(kind * kWarps + block.warp(), 16 * b + col, y); });
      };
      if (norm) {
        const BlockInputs in = inputs_of(t, channel, b);
        tile::ColVec dots;
        tile::fill(dots, 0.0F);
        dot(dots, in.q, r.to[b].dq);
        share(0, dots);
        tile::fill(dots, 0.0F);
        dot(dots, in.k, r.to[b].dk);
        share(1, dots);
      }
    });
    if (!whole) {
      tile::unroll<kBlocks>([&](auto b) {
        store_part(p.dq_parts, p, block, channel, chunk, b, r.to[b].dq);
        store_part(p.dk_parts, p, block, channel, chunk, b, r.to[b].dk);
      });
    }
    block.sync();
    if (norm) {
      block.each(2 * C, [&](int i) { sums.set(i / C, i % C, sum_of(shares, i / C, i % C)); });
      block.sync();
    }
    if (whole) {
      tile::unroll<kBlocks>([&](auto b) {
        if (norm) {
          const BlockInputs in = inputs_of(t, channel, b);
          through_norm(r.to[b].dq, in.q, t.q_norm, sums, 0, 16 * b);
          through_norm(r.to[b].dk, in.k, t.k_norm, sums, 1, 16 * b);
          tile::sync_warp();
        }
        tile::store_trans(t.q, 16 * b, channel, r.to[b].dq);
        tile::store_trans(t.k, 16 * b, channel, r.to[b].dk);
      });
    }
    if (p.dbeta != nullptr) {
      beta_gradients(block, p, head, chunk, shares);
    }
    if (p.dg != nullptr) {
      tile::store(block, rows_of(p.dg, p.HV, head, K, chunk), t.g);
    }
    block.sync();
    if (p.dq != nullptr && whole) {
      tile::store(block, rows_of(p.dq, p.H, head, K, chunk), t.q);
    }
    if (p.dk != nullptr && whole) {
      tile::store(block, rows_of(p.dk, p.H, head, K, chunk), t.k);
    }
  }

  DT_DEVICE static float sum_of(const Shares& shares, int kind, int token) {
    float sum = 0.0F;
    for (int i = 0; i < kWarps; ++i) {
      sum += shares(kind * kWarps + i, token);
    }
    return sum;
  }
  DT_DEVICE static void beta_gradients(const tile::Block& block, const Params& p, int head, const ChunkEntry& chunk,
                                       const Shares& shares) {
    const auto lam = block.shared<LamShares>(kLamShares);
    const auto raw = rows_of(p.beta, p.HV, head, 1, chunk);
    const auto out = rows_of(p.dbeta, p.HV, head, 1, chunk);
    block.each(chunk.length, [&](int i) {
      float x = sum_of(shares, 2, i);
      for (int c = 0; c < kColumnGroups; ++c) {
        x += lam(c, i);
      }
      if (p.beta_sigmoid) {
        x *= p.beta_factor * tile::sigmoid(raw(i, 0)) * tile::sigmoid(-raw(i, 0));
      }
      out.set(i, 0, x);
    });
  }

  DT_DEVICE static void dot(tile::ColVec& sum, const tile::FragA& y, const tile::Acc& dy) {
    tile::each_lane([&](int lane) {
      tile::unroll<8>([&](auto i) { sum.x(lane, tile::ColVec::of(i)) += value_of(y, lane, i) * dy.x(lane, i); });
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
  DT_DEVICE static void store_part(float* to, const Params& p, const tile::Block& block, int channel,
                                   const ChunkEntry& chunk, int b, const tile::Acc& x) {
    if (to == nullptr) {
      return;
    }
    const auto rows = rows_of(to, p.heads, block.x % p.heads, K, chunk);
    tile::each_lane([&](int lane) {
      tile::unroll<8>([&](auto i) {
        const tile::Place at = tile::Acc::place(lane, i);
        const int token = 16 * b + at.col;
        if (token < chunk.length) {
          rows.set(token, channel + at.row, x.x(lane, i));
        }
      });
    });
  }
};

}  // namespace deltatape::cuda::kda::v1
