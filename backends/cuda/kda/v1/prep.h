// Prep: everything about a chunk that needs no state. One block per chunk and value head.
//
// Reads q, k, the raw gate and beta; writes a record (record.h) and A = (I + M)^-1. With Shape::kSolve off it reads A
// instead, for the backward.
//
//   1  copies of q and k begin; log decays to registers, their totals per block of 8 rows to shared memory; norms
//   2  the pairs of rows, level by level of the dyadic tree (decay.h): operands with factors of at most 1, products
//   3  the leaves: 16 rows around their middle, or 8|8 and then the pairs inside 8 rows one by one
//   4  qg, kg; A by substitution in 16 rows and merges in tf32; w
//
// A warp owns 16 rows and 64 channels, a lane two neighbouring channels of them: their log decays stay in its
// registers.
#pragma once

#include "backends/cuda/kda/sequences.h"
#include "backends/cuda/kda/tile/copy.h"
#include "backends/cuda/kda/tile/launch.h"
#include "backends/cuda/kda/tile/mma.h"
#include "backends/cuda/kda/v1/decay.h"
#include "backends/cuda/kda/v1/record.h"

namespace deltatape::cuda::kda::v1 {

/// What prep is given: sizes and options of a call, and the value heads [first_head, first_head + heads) of a launch.
struct PrepArguments {
  const BFloat16* q = nullptr;  // [rows,H,K]
  const BFloat16* k = nullptr;
  const void* g = nullptr;     // [rows,HV,K], bf16, or f32 with `g_f32`
  const void* beta = nullptr;  // [rows,HV], likewise
  bool g_f32 = false;
  bool beta_f32 = false;
  const float* A_log = nullptr;    // [HV] or null
  const float* dt_bias = nullptr;  // [HV*K] or null
  Gate gate = Gate::none;
  float lower_bound = 0.0F;
  bool l2norm = false;
  bool beta_sigmoid = false;
  float beta_factor = 1.0F;
  float scale = 1.0F;
  int H = 1;
  int HV = 1;
  int first_head = 0;
  int heads = 1;
  const ChunkEntry* chunks = nullptr;
  unsigned char* records = nullptr;  // [chunks,heads]
  BFloat16* A = nullptr;             // images [chunks,A_heads,C,C]: written with kSolve, else read
  int A_heads = 1;                   // of the array; the launch's first head is its A_first
  int A_first = 0;
};

/// Sizes known to the compiler. `centred`: leaves of 16 rows around their middle, for log decays of at least -5 only.
/// `Image`: the layout of w, kg and qg in records.
template <int chunk, int channels, bool centred, bool solve, class Image = tile::Swizzled>
struct PrepShape {
  using RowsImage = Image;
  static constexpr int C = chunk;
  static constexpr int K = channels;
  static constexpr bool kCentred = centred;
  static constexpr bool kSolve = solve;
  static constexpr int kBlocks = C / kBlock;
  static constexpr int kSegments = C / 16;
  static constexpr int kHalves = K / 64;
  static constexpr int kWarps = kSegments * kHalves;
  static constexpr int kBlocksPerSm = K * C >= 8192 ? 2 : 4;  // that registers are to suffice for
  static_assert((C == 32 || C == 64) && (K == 64 || K == 128));

  using Rows = tile::STile<BFloat16, C, K, tile::Swizzled>;
  using HalfRows = tile::STile<BFloat16, C / 2, K, tile::Swizzled>;
  using Square = tile::STile<BFloat16, C, C, tile::Swizzled>;
  using WideSquare = tile::STile<float, C, C, tile::Strided<C + 8>>;
  using Totals = tile::STile<float, kBlocks, K>;
  using PerRow = tile::SRow<float, C>;
  using Leaves = tile::STile<float, kHalves * kBlocks, kBlock * kBlock>;

  // Byte offsets in shared memory.
  static constexpr int kQ = 0;
  static constexpr int kK = kQ + Rows::kBytes;
  static constexpr int kRight = kK + Rows::kBytes;
  static constexpr int kLeft = kRight + Rows::kBytes;
  static constexpr int kAqk = kLeft + HalfRows::kBytes;
  static constexpr int kA = kAqk + Square::kBytes;
  static constexpr int kTotals = kA + Square::kBytes;
  static constexpr int kQFactor = kTotals + Totals::kBytes;
  static constexpr int kKFactor = kQFactor + PerRow::kBytes;
  static constexpr int kBeta = kKFactor + PerRow::kBytes;
  static constexpr int kM = kBeta + PerRow::kBytes;
  static constexpr int kLeaves = kM + (solve ? WideSquare::kBytes : 0);
  static constexpr int kSharedBytes = kLeaves + (centred ? 0 : Leaves::kBytes);
  static_assert(kSharedBytes <= 113 * 1024, "two blocks are to fit on a multiprocessor of sm_90");
};

template <class Shape>
class PrepBlock {
 public:
  DT_DEVICE PrepBlock(const tile::Block& block, const PrepArguments& p)
      : block_(block),
        p_(p),
        q_(block.shared<typename Shape::Rows>(Shape::kQ)),
        k_(block.shared<typename Shape::Rows>(Shape::kK)),
        right_(block.shared<typename Shape::Rows>(Shape::kRight)),
        left_(block.shared<typename Shape::HalfRows>(Shape::kLeft)),
        Aqk_(block.shared<typename Shape::Square>(Shape::kAqk)),
        A_(block.shared<typename Shape::Square>(Shape::kA)),
        totals_(block.shared<typename Shape::Totals>(Shape::kTotals)),
        q_factor_(block.shared<typename Shape::PerRow>(Shape::kQFactor)),
        k_factor_(block.shared<typename Shape::PerRow>(Shape::kKFactor)),
        beta_(block.shared<typename Shape::PerRow>(Shape::kBeta)),
        head_(block.x % p.heads),
        chunk_(block.x / p.heads),
        segment_(block.warp() / Shape::kHalves),
        half_(block.warp() % Shape::kHalves) {
    const ChunkEntry entry = p.chunks[chunk_];
    first_row_ = entry.first_row;
    rows_ = entry.length;
    record_ = p.records + record_index(chunk_, head_, p.heads) * TheRecord::kBytes;
    A_image_ = p.A + record_index(chunk_, p.A_first + head_, p.A_heads) * (C * C);
  }

  DT_DEVICE void run() {
    load();
    block_.sync();
    find_factors();
    block_.sync();
    level<C / 16>();
    if constexpr (C == 64) {
      level<2>();
    }
    if constexpr (Shape::kCentred) {
      centred_leaves(0);
      centred_leaves(1);
    } else {
      level<1>();
      sum_leaves();
      block_.sync();
      finish_leaves();
    }
    write_decayed();
    block_.sync();
    if constexpr (Shape::kSolve) {
      invert();
    }
    multiply_w();
    block_.sync();
    store_w();
    tile::store_raw(block_, reinterpret_cast<BFloat16*>(record_ + TheRecord::kAqk), Aqk_);
    if constexpr (Shape::kSolve) {
      tile::store_raw(block_, A_image_, A_);
    }
  }

 private:
  static constexpr int C = Shape::C;
  static constexpr int K = Shape::K;
  using TheRecord = Record<C, K>;

  // 1. Loading.

  DT_DEVICE void load() {
    const int key_head = (p_.first_head + head_) / (p_.HV / p_.H);
    const int64_t key_row = int64_t{p_.H} * K;
    const int64_t key_begin = first_row_ * key_row + int64_t{key_head} * K;
    tile::copy_async(block_, q_, tile::GTile<const BFloat16>(p_.q + key_begin, key_row, rows_, K));
    tile::copy_async(block_, k_, tile::GTile<const BFloat16>(p_.k + key_begin, key_row, rows_, K));
    if constexpr (!Shape::kSolve) {
      tile::copy_async_raw(block_, A_, static_cast<const BFloat16*>(A_image_));
    }
    tile::commit_copies();
    p_.g_f32 ? load_decays<float>() : load_decays<BFloat16>();
    p_.beta_f32 ? load_beta<float>() : load_beta<BFloat16>();
    clear();
    tile::wait_copies<0>();
  }

  template <class T>
  DT_DEVICE void load_decays() {
    const int hv = p_.first_head + head_;
    const int64_t stride = int64_t{p_.HV} * K;
    const tile::GTile<const T> g(static_cast<const T*>(p_.g) + first_row_ * stride + int64_t{hv} * K, stride, rows_, K);
    HeadGate gate{.gate = p_.gate, .a = 1.0F, .lower_bound = p_.lower_bound};
    if (p_.A_log != nullptr) {
      gate.a = tile::ex2(tile::kLog2E * tile::global_row(p_.A_log, p_.HV)(0, hv));
    }
    tile::each_lane([&](int lane) {
      const int col = column(lane);
      tile::Values<float, 2> bias{{0.0F, 0.0F}};
      if (p_.dt_bias != nullptr) {
        bias = tile::global_row(p_.dt_bias, p_.HV * K).template read<2>(0, hv * K + col);
      }
      ChannelPair raw[16];
      tile::unroll<16>([&](auto r) {
        if (16 * segment_ + r < rows_) {
          const auto pair = g.template read<2>(16 * segment_ + r, col);
          raw[r] = {{pair[0], pair[1]}};
        }
      });
      // What lies behind the end decays nothing: masked after the gate, since gate(0) is not 0.
      tile::unroll<16>([&](auto r) {
        const bool inside = 16 * segment_ + r < rows_;
        tile::unroll<2>([&](auto c) {
          decay_(lane, r / kBlock).g[r % kBlock][c] = inside ? log2_decay(gate, raw[r].x[c], bias[c]) : 0.0F;
        });
      });
      tile::unroll<2>([&](auto b) {
        const ChannelPair total = total_of(decay_(lane, b));
        totals_.template write<2>(2 * segment_ + b, col, {{total.x[0], total.x[1]}});
      });
    });
  }

  template <class T>
  DT_DEVICE void load_beta() {
    const tile::GTile<const T> beta(static_cast<const T*>(p_.beta) + first_row_ * p_.HV + p_.first_head + head_, p_.HV,
                                    rows_, 1);
    const auto to = tile::global_row(reinterpret_cast<float*>(record_ + TheRecord::kBeta), C);
    block_.each(C, [&](int row) {
      float x = 0.0F;
      if (row < rows_) {
        x = beta(row, 0);
        x = p_.beta_sigmoid ? p_.beta_factor * tile::sigmoid(x) : x;
      }
      beta_.set(0, row, x);
      to.set(0, row, x);
    });
  }

  /// Zeros where no product writes: above the diagonal.
  DT_DEVICE void clear() {
    tile::each_chunk<typename Shape::Square>(block_, [&](int row, int col) { Aqk_.template write<8>(row, col, {}); });
    if constexpr (Shape::kSolve) {
      tile::each_chunk<tile::STile<float, C, 16>>(
          block_, [&](int row, int col) { M().template write<4>(row, row / 16 * 16 + col, {}); });
    }
  }

  /// What rows of q and k are multiplied by: norm and scale.
  DT_DEVICE void find_factors() {
    constexpr int kLanesOfRow = 8;
    constexpr int kRowsAtOnce = tile::kLanes / kLanesOfRow;
    block_.each_warp(2 * C / kRowsAtOnce, [&](int i) {
      const bool is_q = i < C / kRowsAtOnce;
      const int first = i % (C / kRowsAtOnce) * kRowsAtOnce;
      const auto& rows = is_q ? q_ : k_;
      tile::PerLane<float> sum;
      tile::each_lane([&](int lane) {
        sum(lane) = 0.0F;
        tile::unroll<K / 64>([&](auto part) {
          const auto x = rows.template read<8>(first + lane / kLanesOfRow, lane % kLanesOfRow * 8 + 64 * part);
          tile::unroll<8>([&](auto e) { sum(lane) += x[e] * x[e]; });
        });
      });
      tile::sum_lanes(sum, kLanesOfRow - 1);
      tile::each_lane([&](int lane) {
        if (lane % kLanesOfRow == 0) {
          constexpr float kEps = 1e-6F;
          const float norm = p_.l2norm ? tile::rsqrt(sum(lane) + kEps) : 1.0F;
          (is_q ? q_factor_ : k_factor_).set(0, first + lane / kLanesOfRow, is_q ? norm * p_.scale : norm);
        }
      });
    });
  }

  // 2. Pairs of rows by levels.

  [[nodiscard]] DT_DEVICE int column(int lane) const { return 64 * half_ + 2 * lane; }
  [[nodiscard]] DT_DEVICE ChannelPair q_at(int row, int col) const { return scaled(q_, q_factor_, row, col); }
  [[nodiscard]] DT_DEVICE ChannelPair k_at(int row, int col) const { return scaled(k_, k_factor_, row, col); }
  DT_DEVICE static ChannelPair scaled(const typename Shape::Rows& rows, const typename Shape::PerRow& factors, int row,
                                      int col) {
    const auto x = rows.template read<2>(row, col);
    const float factor = factors(0, row);
    return {{factor * x[0], factor * x[1]}};
  }
  template <class Tile>
  DT_DEVICE static void write(const Tile& to, int row, int col, const ChannelPair& x, const ChannelPair& factor) {
    to.template write<2>(row, col, {{x.x[0] * factor.x[0], x.x[1] * factor.x[1]}});
  }
  /// The log decay of blocks [first, last).
  [[nodiscard]] DT_DEVICE ChannelPair sum_of_blocks(int first, int last, int col) const {
    ChannelPair sum;
    for (int b = first; b < last; ++b) {
      const auto total = totals_.template read<2>(b, col);
      sum += total.x;
    }
    return sum;
  }

  /// Pairs between the halves of pieces of 2 `half` blocks.
  template <int half>
  DT_DEVICE void level() {
    write_operands(Level{half});
    block_.sync();
    if constexpr (half == 1) {
      multiply_blocks();
    } else {
      multiply_level<half>();
    }
    block_.sync();
  }

  /// Right blocks go to `right_` as 8 rows of q and 8 of k, left blocks to `left_` as 8 rows of k.
  DT_DEVICE void write_operands(const Level& level) const {
    tile::each_lane([&](int lane) {
      const int col = column(lane);
      tile::unroll<2>([&](auto b) {
        const int block = 2 * segment_ + b;
        const int place = level.place(block);
        const ChannelPair between = sum_of_blocks(level.first_between(block), level.last_between(block), col);
        if (level.right(block)) {
          through_rows(decay_(lane, b), [&](auto r, const ChannelPair& sum) {
            const ChannelPair factor = ex2(between + sum);
            write(right_, 16 * place + r, col, q_at(kBlock * block + r, col), factor);
            write(right_, 16 * place + kBlock + r, col, k_at(kBlock * block + r, col), factor);
          });
        } else {
          behind_rows(decay_(lane, b), [&](auto r, const ChannelPair& sum) {
            write(left_, kBlock * place + r, col, k_at(kBlock * block + r, col), ex2(between + sum));
          });
        }
      });
    });
  }

  template <int half>
  DT_DEVICE void multiply_level() const {
    constexpr int kTiles = half / 2;  // of 16 columns
    block_.each_warp(Shape::kBlocks / 2 * kTiles, [&](int unit) {
      const int place = unit / kTiles;
      const int piece = place / half;
      const int tile_of_piece = unit % kTiles;
      tile::Acc x = tile::zeros();
      tile::unroll<K / 16>([&](auto c) {
        tile::mma(x, tile::load_a(right_, 16 * place, 16 * c),
                  tile::load_b_trans(left_, kBlock * half * piece + 16 * tile_of_piece, 16 * c));
      });
      const int row = kBlock * (half * (piece + 1) + place);
      const int col = 2 * kBlock * half * piece + 16 * tile_of_piece;
      tile::each_pair(x, [&](int i, int j, const tile::Values<float, 2>& pair) {
        put(i < kBlock, row + i % kBlock, col + j, pair);
      });
    });
  }

  /// The level of single blocks: two squares of 8 x 8 side by side in one tile.
  DT_DEVICE void multiply_blocks() const {
    block_.each_warp(Shape::kBlocks / 4, [&](int unit) {
      tile::Acc x = tile::zeros();
      tile::unroll<K / 16>([&](auto c) {
        const tile::FragB columns = tile::load_b_trans(left_, 16 * unit, 16 * c);
        tile::mma_half<0>(x, tile::load_a(right_, 32 * unit, 16 * c), columns);
        tile::mma_half<1>(x, tile::load_a(right_, 32 * unit + 16, 16 * c), columns);
      });
      tile::each_pair(x, [&](int i, int j, const tile::Values<float, 2>& pair) {
        const int piece = 2 * unit + j / kBlock;
        put(i < kBlock, 16 * piece + kBlock + i % kBlock, 16 * piece + j % kBlock, pair);
      });
    });
  }

  /// Two neighbours of a row of Aqk, or of N for M.
  DT_DEVICE void put(bool of_q, int row, int col, const tile::Values<float, 2>& x) const {
    if (of_q) {
      Aqk_.template write<2>(row, col, x);
    } else if constexpr (Shape::kSolve) {
      const float beta = beta_(0, row);
      M().template write<2>(row, col, {{beta * x[0], beta * x[1]}});
    }
  }

  // 3. Leaves.

  /// Pairs inside 16 rows, for the first or second half of the segments. The anchor lies between the eighth row and the
  /// ninth; exponents reach 8 times the strongest log decay.
  DT_DEVICE void centred_leaves(int part) {
    constexpr int kSegmentsOfPart = Shape::kSegments / 2;
    const int place = segment_ - part * kSegmentsOfPart;
    if (place >= 0 && place < kSegmentsOfPart) {
      tile::each_lane([&](int lane) {
        const int col = column(lane);
        const auto write_row = [&](int r, const ChannelPair& row_exponent) {
          const ChannelPair column_exponent{{-row_exponent.x[0], -row_exponent.x[1]}};
          const ChannelPair row_factor = ex2(row_exponent);
          const ChannelPair k = k_at(16 * segment_ + r, col);
          const int to = 32 * place + r / kBlock * 16 + r % kBlock;
          write(right_, to, col, q_at(16 * segment_ + r, col), row_factor);
          write(right_, to + kBlock, col, k, row_factor);
          write(left_, 16 * place + r, col, k, ex2(column_exponent));
        };
        behind_rows(decay_(lane, 0), [&](auto r, const ChannelPair& sum) { write_row(r, {{-sum.x[0], -sum.x[1]}}); });
        through_rows(decay_(lane, 1), [&](auto r, const ChannelPair& sum) { write_row(kBlock + r, sum); });
      });
    }
    block_.sync();
    block_.each_warp(2 * kSegmentsOfPart, [&](int unit) {
      const bool lower = unit % 2 == 1;
      tile::Acc x = tile::zeros();
      tile::unroll<K / 16>([&](auto c) {
        const tile::FragA rows = tile::load_a(right_, 16 * unit, 16 * c);
        const tile::FragB columns = tile::load_b_trans(left_, 16 * (unit / 2), 16 * c);
        tile::mma_half<0>(x, rows, columns);
        if (lower) {
          tile::mma_half<1>(x, rows, columns);
        }
      });
      const int first = 16 * (part * kSegmentsOfPart + unit / 2);
      tile::each_pair(x, [&](int i, int j, const tile::Values<float, 2>& pair) {
        if (lower || j < kBlock) {
          const bool of_q = i < kBlock;
          const int row = i % kBlock + (lower ? kBlock : 0);
          const int last = of_q ? row : row - 1;  // column that counts; above it anything may stand, even infinity
          put(of_q, first + row, first + j, {{j <= last ? pair[0] : 0.0F, j + 1 <= last ? pair[1] : 0.0F}});
        }
      });
    });
    block_.sync();
  }

  /// Pairs inside 8 rows, summed over the warp's 64 channels. Row R of the 8 x 8 sums of a block holds those of
  /// (q, k) in column 7 - R and those of (k, k) in column R, which are 8 together: entry m is row 7 - R + m of the
  /// former where m <= R, otherwise row m of the latter.
  DT_DEVICE void sum_leaves() const {
    const auto leaves = block_.template shared<typename Shape::Leaves>(Shape::kLeaves);
    tile::unroll<2>([&](auto b) {
      const int first = 16 * segment_ + kBlock * b;
      // Four rows of sums at a time, R and 7 - R, so that a lane has 32 sums and a warp one per lane in the end.
      tile::unroll<2>([&](auto part) {
        tile::PerLane<float, 32> sums;
        tile::each_lane([&](int lane) {
          const int col = column(lane);
          tile::unroll<32>([&](auto i) { sums(lane, i) = 0.0F; });
          tile::unroll<2>([&](auto c) { add_pairs<part>(lane, decay_(lane, b), first, col, c, sums); });
        });
        const tile::PerLane<float> sum = sum_each_over_lanes(sums);
        tile::each_lane([&](int lane) {
          const int r = 2 * part + lane / 16;
          const int row = lane / 8 % 2 == 0 ? r : 7 - r;
          leaves.set(half_ * Shape::kBlocks + 2 * segment_ + b, kBlock * row + lane % 8, sum(lane));
        });
      });
    });
  }

  /// Adds the pairs of one channel in columns R and 7 - R for R = 2 part, 2 part + 1.
  template <int part, class Sums>
  DT_DEVICE void add_pairs(int lane, const BlockDecay& decay, int first, int col, int c, Sums& sums) const {
    float q[kBlock];
    float k[kBlock];
    float factor[kBlock];  // of one step
    tile::unroll<kBlock>([&](auto r) {
      q[r] = q_at(first + r, col).x[c];
      k[r] = k_at(first + r, col).x[c];
      factor[r] = tile::ex2(decay.g[r][c]);
    });
    tile::unroll<4>([&](auto i) {
      constexpr int kSmall = 2 * part + decltype(i)::value / 2;
      constexpr int kColumn = decltype(i)::value % 2 == 0 ? kSmall : 7 - kSmall;
      float arrived = k[kColumn];
      tile::unroll<kBlock - kColumn>([&](auto m) {
        constexpr int kRow = kColumn + decltype(m)::value;
        if constexpr (kRow > kColumn) {
          arrived *= factor[kRow];
          sums(lane, place_of_sum(kColumn, part) + kRow) += k[kRow] * arrived;
        }
        sums(lane, place_of_sum(7 - kColumn, part) + kRow - kColumn) += q[kRow] * arrived;
      });
    });
  }
  /// Where row R of the sums begins among the 32 of a part.
  static constexpr int place_of_sum(int R, int part) {
    return R < 4 ? kBlock * 2 * (R - 2 * part) : kBlock * (2 * (7 - R - 2 * part) + 1);
  }

  /// Lane i gets the sum of value i over all lanes, in a fixed tree.
  DT_DEVICE static tile::PerLane<float> sum_each_over_lanes(const tile::PerLane<float, 32>& x) {
    return halved<1>(halved<2>(halved<4>(halved<8>(halved<16>(x)))));
  }
  /// Of 2 n values a lane keeps n, which half depends on its bit n, and adds those of the lane beside it.
  template <int n>
  DT_DEVICE static tile::PerLane<float, n> halved(const tile::PerLane<float, 2 * n>& x) {
    tile::PerLane<float, n> kept;
    tile::PerLane<float, n> given;
    tile::each_lane([&](int lane) {
      const bool upper = (lane & n) != 0;
      tile::unroll<n>([&](auto i) {
        kept(lane, i) = upper ? x(lane, n + i) : x(lane, i);
        given(lane, i) = upper ? x(lane, i) : x(lane, n + i);
      });
    });
    const tile::PerLane<float, n> taken = tile::shuffle_xor(given, n);
    tile::each_lane([&](int lane) { tile::unroll<n>([&](auto i) { kept(lane, i) += taken(lane, i); }); });
    return kept;
  }

  DT_DEVICE void finish_leaves() const {
    const auto leaves = block_.template shared<typename Shape::Leaves>(Shape::kLeaves);
    block_.each(Shape::kBlocks * kBlock * kBlock, [&](int i) {
      const int block = i / (kBlock * kBlock);
      const int R = i / kBlock % kBlock;
      const int m = i % kBlock;
      float sum = 0.0F;
      tile::unroll<Shape::kHalves>([&](auto h) { sum += leaves(h * Shape::kBlocks + block, i % (kBlock * kBlock)); });
      const int first = kBlock * block;
      if (m <= R) {
        Aqk_.set(first + 7 - R + m, first + 7 - R, sum);
      } else if constexpr (Shape::kSolve) {
        M().set(first + m, first + R, beta_(0, first + m) * sum);
      }
    });
  }

  // 4. What the state meets.

  /// qg and kg go to the record, beta k 2^G to `right_`.
  DT_DEVICE void write_decayed() const {
    const auto qg = tile::global_row(reinterpret_cast<BFloat16*>(record_ + TheRecord::kQg), C * K);
    const auto kg = tile::global_row(reinterpret_cast<BFloat16*>(record_ + TheRecord::kKg), C * K);
    tile::each_lane([&](int lane) {
      const int col = column(lane);
      const auto write_image = [&](const auto& to, int row, const ChannelPair& x, const ChannelPair& factor) {
        to.template write<2>(0, Shape::RowsImage::template index<BFloat16, K>(row, col),
                             {{x.x[0] * factor.x[0], x.x[1] * factor.x[1]}});
      };
      tile::unroll<2>([&](auto b) {
        const int block = 2 * segment_ + b;
        const ChannelPair before = sum_of_blocks(0, block, col);
        const ChannelPair after = sum_of_blocks(block + 1, Shape::kBlocks, col);
        through_rows(decay_(lane, b), [&](auto r, const ChannelPair& sum) {
          const int row = kBlock * block + r;
          const ChannelPair factor = ex2(before + sum);
          const float beta = beta_(0, row);
          write_image(qg, row, q_at(row, col), factor);
          write(right_, row, col, k_at(row, col), {{beta * factor.x[0], beta * factor.x[1]}});
        });
        behind_rows(decay_(lane, b), [&](auto r, const ChannelPair& sum) {
          const int row = kBlock * block + r;
          write_image(kg, row, k_at(row, col), ex2(after + sum));
        });
      });
      if (segment_ == 0) {
        const ChannelPair decay = ex2(sum_of_blocks(0, Shape::kBlocks, col));
        tile::global_row(reinterpret_cast<float*>(record_ + TheRecord::kDecay), K)
            .template write<2>(0, col, {{decay.x[0], decay.x[1]}});
      }
    });
  }

  [[nodiscard]] DT_DEVICE typename Shape::WideSquare M() const {
    return block_.template shared<typename Shape::WideSquare>(Shape::kM);
  }

  /// M becomes (I + M)^-1, in place: diagonal squares of 16 by substitution, then A21 = -A22 M21 A11 of 16 and of 32.
  DT_DEVICE void invert() const {
    block_.each_warp(Shape::kSegments, [&](int i) { invert_square(16 * i); });
    block_.sync();
    block_.each_warp(C / 32, [&](int i) {
      const int col = 32 * i;
      const int row = col + 16;
      const tile::Acc left = product(row, row, row, col, 1);
      tile::Acc x = tile::zeros();
      tile::mma(x, tile::as_tf_a(left), tile::load_tf_b(M(), col, col));
      tile::sync_warp();
      store_negative(row, col, x);
    });
    block_.sync();
    if constexpr (C == 64) {
      const int i = block_.warp() / 2;
      const int j = block_.warp() % 2;
      tile::Acc x = tile::zeros();
      if (i < 2) {
        for (int l = j; l < 2; ++l) {
          const tile::Acc left = product(32 + 16 * i, 32, 32, 16 * l, i + 1);
          tile::mma(x, tile::as_tf_a(left), tile::load_tf_b(M(), 16 * l, 16 * j));
        }
      }
      block_.sync();
      if (i < 2) {
        store_negative(32 + 16 * i, 16 * j, x);
      }
      block_.sync();
    }
    block_.each_warp(Shape::kSegments * Shape::kSegments, [&](int i) {
      const int row = 16 * (i / Shape::kSegments);
      const int col = 16 * (i % Shape::kSegments);
      tile::store(A_, row, col, col <= row ? tile::load_acc(M(), row, col) : tile::zeros());
    });
    block_.sync();
  }

  /// A lane per column.
  DT_DEVICE void invert_square(int first) const {
    tile::PerLane<float, 16> x;
    tile::each_lane([&](int lane) {
      if (lane < 16) {
        tile::unroll<16>([&](auto i) {
          constexpr int kRow = decltype(i)::value;
          float sum = lane == kRow ? 1.0F : 0.0F;
          tile::unroll<(kRow + 3) / 4>([&](auto part) {
            constexpr int kFirst = 4 * decltype(part)::value;
            const auto row = M().template read<4>(first + kRow, first + kFirst);
            tile::unroll<(kRow < kFirst + 4 ? kRow - kFirst : 4)>([&](auto j) { sum -= row[j] * x(lane, kFirst + j); });
          });
          x(lane, kRow) = lane <= kRow ? sum : 0.0F;  // chosen, not computed: a later row may be NaN
        });
      }
    });
    tile::sync_warp();
    tile::each_lane([&](int lane) {
      if (lane < 16) {
        tile::unroll<16>([&](auto i) { M().set(first + i, first + lane, x(lane, i)); });
      }
    });
  }
  /// The 16 x 16 product of `tiles` tiles of M in a row from (row, col) on and in a column from (row2, col2) on.
  [[nodiscard]] DT_DEVICE tile::Acc product(int row, int col, int row2, int col2, int tiles) const {
    tile::Acc x = tile::zeros();
    for (int i = 0; i < tiles; ++i) {
      tile::mma(x, tile::load_tf_a(M(), row, col + 16 * i), tile::load_tf_b(M(), row2 + 16 * i, col2));
    }
    return x;
  }
  DT_DEVICE void store_negative(int row, int col, tile::Acc& x) const {
    tile::each(x, [](int, int, float& value) { value = -value; });
    tile::store(M(), row, col, x);
  }

  /// -w to where q was.
  DT_DEVICE void multiply_w() const {
    block_.each_warp(K / 16, [&](int c) {
      tile::FragB columns[Shape::kSegments];
      tile::unroll<Shape::kSegments>([&](auto j) { columns[j] = tile::load_b(right_, 16 * j, 16 * c); });
      tile::unroll<Shape::kSegments>([&](auto i) {
        tile::Acc x = tile::zeros();
        tile::unroll<decltype(i)::value + 1>(
            [&](auto j) { tile::mma(x, tile::load_a(A_, 16 * i, 16 * j), columns[j]); });
        tile::each(x, [](int, int, float& value) { value = -value; });
        tile::store(q_, 16 * i, 16 * c, x);
      });
    });
  }

  DT_DEVICE void store_w() const {
    auto* const to = reinterpret_cast<BFloat16*>(record_ + TheRecord::kW);
    if constexpr (std::is_same_v<typename Shape::RowsImage, tile::Swizzled>) {
      tile::store_raw(block_, to, q_);
    } else {
      const auto image = tile::global_row(to, C * K);
      tile::each_chunk<typename Shape::Rows>(block_, [&](int row, int col) {
        tile::Values<BFloat16, 8> x;
        q_.template read_raw<8>(row, col, x);
        image.template write_raw<8>(0, Shape::RowsImage::template index<BFloat16, K>(row, col), x);
      });
    }
  }

  const tile::Block& block_;
  const PrepArguments& p_;
  typename Shape::Rows q_;
  typename Shape::Rows k_;
  typename Shape::Rows right_;
  typename Shape::HalfRows left_;
  typename Shape::Square Aqk_;
  typename Shape::Square A_;
  typename Shape::Totals totals_;
  typename Shape::PerRow q_factor_;
  typename Shape::PerRow k_factor_;
  typename Shape::PerRow beta_;
  int head_;
  int chunk_;
  int segment_;
  int half_;
  int64_t first_row_ = 0;
  int rows_ = 0;
  unsigned char* record_ = nullptr;
  BFloat16* A_image_ = nullptr;
  tile::PerLane<BlockDecay, 2> decay_;
};

/// The kernel.
template <class Shape>
struct Prep {
  using Params = PrepArguments;
  static constexpr int kWarps = Shape::kWarps;
  static constexpr int kBlocksPerSm = Shape::kBlocksPerSm;
  static constexpr int kSharedBytes = Shape::kSharedBytes;

  DT_DEVICE void operator()(const tile::Block& block, const Params& p) const { PrepBlock<Shape>(block, p).run(); }
};

}  // namespace deltatape::cuda::kda::v1
