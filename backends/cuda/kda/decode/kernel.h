// Decoding with the state in registers: a token or a few of one sequence and value head, on a pool of states in place.
// One block of 8 warps per sequence, value head and slice of V; it reads the state once, whatever the number of tokens.
//
// With S' the decayed state, both things that a token wants of it come from one pass, a = S'^T k and b = S'^T q:
//
//   r = v - a      o = scale (b + beta (k.q) r)      S = S' + beta k r^T
//
// A lane holds four neighbours of every one of its rows of the state as it lies in memory. Of a state [K,V] the rows
// are channels: sums over them go through shared memory, with one barrier. Of a state [V,K] they are columns of V: sums
// stay inside a warp.
#pragma once

#include <cstdint>

#include "backends/cuda/kda/tile/block.h"
#include "backends/cuda/kda/tile/global.h"
#include "backends/cuda/kda/tile/shared.h"
#include "backends/kda.h"

namespace deltatape::cuda::kda::decoding {

using deltatape::kda::Gate;

/// A dense tensor of f32, bf16 or f16, or nothing.
struct Source {
  const void* data = nullptr;
  DType dtype = DType::f32;
};

struct Params {
  Source q;              // [N,m,H,K]
  Source k;              // [N,m,H,K]
  Source v;              // [N,m,HV,V]
  Source g;              // [N,m,HV,K]
  Source beta;           // [N,m,HV]
  Source A_log;          // [HV] or nothing
  Source dt_bias;        // [HV*K] or nothing
  void* pool = nullptr;  // [P,HV,K,V] ([P,HV,V,K])
  void* o = nullptr;     // [N,m,HV,V]
  DType o_dtype = DType::f32;
  const int64_t* first_slot = nullptr;  // [N], negative: padding
  const int64_t* slots = nullptr;       // [N,m], negative: padding
  int tokens = 1;                       // m
  int H = 1;
  int HV = 1;
  Gate gate = Gate::none;
  float lower_bound = 0.0F;
  float scale = 1.0F;
  float beta_factor = 1.0F;
  bool l2norm = false;
  bool beta_sigmoid = false;
};

/// `n` elements of a source from element `first` + `at` on, as they are in memory: nothing waits for them yet.
template <int n>
DT_DEVICE tile::Values<uint32_t, n> fetch(const Source& source, int64_t first, int count, int at) {
  tile::Values<uint32_t, n> raw{};
  if (source.dtype == DType::f32) {
    const auto row = tile::global_row(static_cast<const uint32_t*>(source.data) + first, count);
    raw = row.template read<n>(0, at);
  } else {
    const auto row = tile::global_row(static_cast<const uint16_t*>(source.data) + first, count);
    const tile::Values<uint16_t, n> halves = row.template read<n>(0, at);
    tile::unroll<n>([&](auto i) { raw[i] = halves[i]; });
  }
  return raw;
}

/// The number that `fetch` found.
DT_DEVICE float number(const Source& source, uint32_t raw) {
  if (source.dtype == DType::f32) {
    return std::bit_cast<float>(raw);
  }
  if (source.dtype == DType::bf16) {
    return std::bit_cast<float>(raw << 16);
  }
  return tile::f16_to_float(static_cast<uint16_t>(raw));
}

/// States of K = `channels` and V = `values`, of which a block takes `slice` columns; T is their type.
template <int channels, int values, int slice, bool v_first, class T>
class DecodeBlock {
 public:
  static constexpr int kWarps = 8;
  static constexpr int K = channels;
  static constexpr int V = values;
  static constexpr int kSlices = V / slice;
  static constexpr int kRows = v_first ? slice : K;  // of the slice of a state as it lies in memory
  static constexpr int kCols = v_first ? K : slice;
  static constexpr int kAcross = kCols / 4;                 // lanes side by side on a row
  static constexpr int kRowLanes = tile::kLanes / kAcross;  // rows that a warp looks at at a time
  static constexpr int kWarpRows = kRows / kWarps;          // rows of a warp
  static constexpr int kLaneRows = kWarpRows / kRowLanes;   // rows of a lane
  static constexpr int kKeyLanes = K / 4;                   // lanes that hold q, k and decay between them
  /// With this many registers for the state there are none left for a loop over tokens.
  static constexpr bool kOneToken = 4 * kLaneRows > 32;
  static_assert(kAcross <= tile::kLanes && kLaneRows >= 1, "too wide a slice, or too few rows");
  // Shared memory, for states [K,V] only.
  using Operands = tile::STile<float, 3, K>;           // q, k, decay; a warp writes and reads its own channels
  using Sums = tile::STile<float, 2 * kWarps, slice>;  // a and b of each warp
  static constexpr int kOperands = 0;
  static constexpr int kSums = kOperands + Operands::kBytes;  // two, used in turn
  static constexpr int kSharedBytes = v_first ? 0 : kSums + 2 * Sums::kBytes;

  DT_DEVICE DecodeBlock(const tile::Block& block, const Params& p)
      : block_(block),
        p_(p),
        column_(block.x % kSlices * slice),
        head_(block.x / kSlices % p.HV),
        sequence_(block.x / kSlices / p.HV) {}

  DT_DEVICE void run() {
    const int64_t first = tile::global_row(p_.first_slot + sequence_, 1)(0, 0);
    if (first >= 0) {
      load_state(first);
    }
    if constexpr (kOneToken) {
      advance(0, first >= 0);
    } else {
      tile::roll(p_.tokens, [&](int t) { advance(t, first >= 0); });
    }
  }

 private:
  DT_DEVICE void advance(int t, bool live) {
    const int64_t slot = live ? slot_of(t) : -1;
    if (slot < 0) {
      write_zeros(t);
      return;
    }
    read_token(t);
    step(t);
    if (kOneToken || next_slot(t) != slot) {  // a state that the next token replaces at once is not written
      store_state(slot);
    }
  }

  // Places.

  [[nodiscard]] DT_DEVICE int row(int lane, int i) const {
    return block_.warp() * kWarpRows + i * kRowLanes + lane / kAcross;
  }
  DT_DEVICE static int col(int lane) { return lane % kAcross * 4; }
  DT_DEVICE static int channel(int lane) { return lane % kKeyLanes * 4; }
  /// Of the token, in tensors [N,m,HV].
  [[nodiscard]] DT_DEVICE int64_t value_row(int t) const {
    return (int64_t{sequence_} * p_.tokens + t) * p_.HV + head_;
  }
  [[nodiscard]] DT_DEVICE int64_t key_row(int t) const {
    return (int64_t{sequence_} * p_.tokens + t) * p_.H + head_ / (p_.HV / p_.H);
  }
  [[nodiscard]] DT_DEVICE int64_t slot_of(int t) const {
    return tile::global_row(p_.slots + int64_t{sequence_} * p_.tokens, p_.tokens)(0, t);
  }
  /// Where the next token that is none of padding leaves its state; -1 after the last.
  [[nodiscard]] DT_DEVICE int64_t next_slot(int t) const {
    for (int next = t + 1; next < p_.tokens; ++next) {
      if (const int64_t slot = slot_of(next); slot >= 0) {
        return slot;
      }
    }
    return -1;
  }

  // The state.

  [[nodiscard]] DT_DEVICE tile::GTile<T> state(int64_t slot) const {
    T* const begin = static_cast<T*>(p_.pool) + (slot * p_.HV + head_) * K * V;
    return v_first ? tile::GTile<T>(begin + int64_t{column_} * K, K, kRows, kCols)
                   : tile::GTile<T>(begin + column_, V, kRows, kCols);
  }
  DT_DEVICE void load_state(int64_t slot) {
    const auto from = state(slot);
    tile::each_lane([&](int lane) {
      tile::unroll<kLaneRows>([&](auto i) {
        const auto part = from.template read<4>(row(lane, i), col(lane));
        tile::unroll<4>([&](auto c) { S_(lane, 4 * i + c) = part[c]; });
      });
    });
  }
  DT_DEVICE void store_state(int64_t slot) const {
    const auto to = state(slot);
    tile::each_lane([&](int lane) {
      tile::unroll<kLaneRows>([&](auto i) {
        tile::Values<float, 4> part;
        tile::unroll<4>([&](auto c) { part[c] = S_(lane, 4 * i + c); });
        to.template write<4>(row(lane, i), col(lane), part);
      });
    });
  }

  // A token.

  [[nodiscard]] DT_DEVICE float log_decay(float z, float a) const {
    if (p_.gate == Gate::standard) {
      return -a * tile::softplus(z);
    }
    return p_.gate == Gate::lower_bound ? p_.lower_bound * tile::sigmoid(a * z) : z;
  }

  /// q, k and decay of the lane's channels, beta and k.q of the token.
  DT_DEVICE void read_token(int t) {
    tile::PerLane<uint32_t, 4> q;
    tile::PerLane<uint32_t, 4> k;
    tile::PerLane<uint32_t, 4> g;
    tile::PerLane<uint32_t, 4> bias;
    tile::each_lane([&](int lane) {  // all loads first, then what waits for them
      const auto get = [&](const Source& source, int64_t first, int count, int at, tile::PerLane<uint32_t, 4>& to) {
        const auto raw = fetch<4>(source, first, count, at);
        tile::unroll<4>([&](auto c) { to(lane, c) = raw[c]; });
      };
      get(p_.q, key_row(t) * K, K, channel(lane), q);
      get(p_.k, key_row(t) * K, K, channel(lane), k);
      get(p_.g, value_row(t) * K, K, channel(lane), g);
      if (p_.dt_bias.data != nullptr) {
        get(p_.dt_bias, int64_t{head_} * K, K, channel(lane), bias);
      }
    });
    const uint32_t beta = fetch<1>(p_.beta, value_row(t), 1, 0)[0];
    const float a = p_.A_log.data != nullptr ? expf(number(p_.A_log, fetch<1>(p_.A_log, head_, 1, 0)[0])) : 1.0F;
    tile::PerLane<float, 2> squares;
    tile::each_lane([&](int lane) {
      squares(lane, 0) = 0.0F;
      squares(lane, 1) = 0.0F;
      tile::unroll<4>([&](auto c) {
        q_(lane, c) = number(p_.q, q(lane, c));
        k_(lane, c) = number(p_.k, k(lane, c));
        squares(lane, 0) += q_(lane, c) * q_(lane, c);
        squares(lane, 1) += k_(lane, c) * k_(lane, c);
        float z = number(p_.g, g(lane, c));
        if (p_.dt_bias.data != nullptr) {
          z += number(p_.dt_bias, bias(lane, c));
        }
        decay_(lane, c) = tile::ex2(tile::kLog2E * log_decay(z, a));
      });
    });
    if (p_.l2norm) {
      normalize(squares);
    }
    beta_ = number(p_.beta, beta);
    if (p_.beta_sigmoid) {
      beta_ = p_.beta_factor * tile::sigmoid(beta_);
    }
    tile::PerLane<float> products;
    tile::each_lane([&](int lane) {
      products(lane) = 0.0F;
      tile::unroll<4>([&](auto c) { products(lane) += q_(lane, c) * k_(lane, c); });
    });
    tile::sum_lanes(products, kKeyLanes - 1);
    kq_ = tile::uniform(products);
  }
  DT_DEVICE void normalize(tile::PerLane<float, 2>& squares) {
    constexpr float kNormEps = 1e-6F;
    tile::sum_lanes(squares, kKeyLanes - 1);
    tile::each_lane([&](int lane) {
      const float of_q = tile::rsqrt(squares(lane, 0) + kNormEps);
      const float of_k = tile::rsqrt(squares(lane, 1) + kNormEps);
      tile::unroll<4>([&](auto c) {
        q_(lane, c) *= of_q;
        k_(lane, c) *= of_k;
      });
    });
  }

  DT_DEVICE void step(int t) {
    if constexpr (v_first) {
      step_value_first(t);
    } else {
      step_key_first(t);
    }
  }

  DT_DEVICE void step_key_first(int t) {
    const auto operands = block_.template shared<Operands>(kOperands);
    const auto sums = block_.template shared<Sums>(kSums + t % 2 * Sums::kBytes);
    tile::sync_warp();  // the token before has been read
    tile::each_lane([&](int lane) {
      const int c = channel(lane);
      if (lane < kKeyLanes && c / kWarpRows == block_.warp()) {
        const auto put = [&](int which, const tile::PerLane<float, 4>& x) {
          operands.template write<4>(which, c, {{x(lane, 0), x(lane, 1), x(lane, 2), x(lane, 3)}});
        };
        put(0, q_);
        put(1, k_);
        put(2, decay_);
      }
    });
    tile::sync_warp();
    tile::PerLane<float, 8> ab;
    tile::each_lane([&](int lane) {
      tile::unroll<8>([&](auto c) { ab(lane, c) = 0.0F; });
      tile::unroll<kLaneRows>([&](auto i) {
        const float q = operands(0, row(lane, i));
        const float k = operands(1, row(lane, i));
        const float decay = operands(2, row(lane, i));
        tile::unroll<4>([&](auto c) {
          float& s = S_(lane, 4 * i + c);
          s *= decay;
          ab(lane, c) += s * k;
          ab(lane, 4 + c) += s * q;
        });
      });
    });
    tile::sum_lanes(ab, tile::kLanes - kAcross);
    tile::each_lane([&](int lane) {
      if (lane < kAcross) {
        tile::unroll<2>([&](auto which) {
          constexpr int kFirst = 4 * decltype(which)::value;
          sums.template write<4>(
              2 * block_.warp() + which, col(lane),
              {{ab(lane, kFirst), ab(lane, kFirst + 1), ab(lane, kFirst + 2), ab(lane, kFirst + 3)}});
        });
      }
    });
    block_.sync();
    tile::each_lane([&](int lane) {
      tile::Values<float, 4> a{};
      tile::Values<float, 4> b{};
      tile::roll(kWarps, [&](int w) {
        const auto of_a = sums.template read<4>(2 * w, col(lane));
        const auto of_b = sums.template read<4>(2 * w + 1, col(lane));
        tile::unroll<4>([&](auto c) {
          a[c] += of_a[c];
          b[c] += of_b[c];
        });
      });
      const auto raw = fetch<4>(p_.v, value_row(t) * V, V, column_ + col(lane));
      tile::Values<float, 4> o;
      tile::Values<float, 4> delta;
      tile::unroll<4>([&](auto c) {
        delta[c] = beta_ * (number(p_.v, raw[c]) - a[c]);
        o[c] = p_.scale * (b[c] + kq_ * delta[c]);
      });
      if (block_.warp() == 0 && lane < kAcross) {
        write_output<4>(t, col(lane), o);
      }
      tile::unroll<kLaneRows>([&](auto i) {
        const float k = operands(1, row(lane, i));
        tile::unroll<4>([&](auto c) { S_(lane, 4 * i + c) += k * delta[c]; });
      });
    });
  }

  DT_DEVICE void step_value_first(int t) {
    tile::PerLane<float, kLaneRows> a;
    tile::PerLane<float, kLaneRows> b;
    tile::each_lane([&](int lane) {
      tile::unroll<kLaneRows>([&](auto i) {
        a(lane, i) = 0.0F;
        b(lane, i) = 0.0F;
        tile::unroll<4>([&](auto c) {
          float& s = S_(lane, 4 * i + c);
          s *= decay_(lane, c);
          a(lane, i) += s * k_(lane, c);
          b(lane, i) += s * q_(lane, c);
        });
      });
    });
    fold<kLaneRows, kAcross / 2>(a);
    fold<kLaneRows, kAcross / 2>(b);
    // Now value 0 of a lane is the sum of row `item`; kAcross / kLaneRows neighbours have the same.
    constexpr int kSame = kAcross / kLaneRows;
    static_assert(kSame * kLaneRows == kAcross, "every row of a lane ends up in a lane");
    tile::PerLane<float> delta;
    tile::each_lane([&](int lane) {
      const int at = row(lane, lane % kAcross / kSame);
      delta(lane) = beta_ * (number(p_.v, fetch<1>(p_.v, value_row(t) * V, V, column_ + at)[0]) - a(lane, 0));
      if (lane % kSame == 0) {
        write_output<1>(t, at, {{p_.scale * (b(lane, 0) + kq_ * delta(lane))}});
      }
    });
    tile::unroll<kLaneRows>([&](auto i) {
      const auto of_row = tile::shuffle(delta, [&](int lane) { return lane / kAcross * kAcross + i * kSame; });
      tile::each_lane(
          [&](int lane) { tile::unroll<4>([&](auto c) { S_(lane, 4 * i + c) += k_(lane, c) * of_row(lane); }); });
    });
  }

  /// Sums `count` numbers of each lane over the lanes of a row, and leaves each sum to some of them: at every step a
  /// lane gives away half of its numbers and takes the other half from its partner. Half the shuffles of as many sums.
  template <int count, int bit>
  DT_DEVICE static void fold(tile::PerLane<float, kLaneRows>& x) {
    if constexpr (bit > 0 && count > 1) {
      constexpr int kHalf = count / 2;
      tile::PerLane<float, kHalf> given;
      tile::each_lane([&](int lane) {
        const bool upper = (lane & bit) != 0;
        tile::unroll<kHalf>([&](auto i) {
          given(lane, i) = upper ? x(lane, i) : x(lane, kHalf + i);
          x(lane, i) = upper ? x(lane, kHalf + i) : x(lane, i);
        });
      });
      const auto taken = tile::shuffle_xor(given, bit);
      tile::each_lane([&](int lane) { tile::unroll<kHalf>([&](auto i) { x(lane, i) += taken(lane, i); }); });
      fold<kHalf, bit / 2>(x);
    } else if constexpr (bit > 0) {
      tile::PerLane<float> sum;
      tile::each_lane([&](int lane) { sum(lane) = x(lane, 0); });
      tile::sum_lanes(sum, 2 * bit - 1);
      tile::each_lane([&](int lane) { x(lane, 0) = sum(lane); });
    }
  }

  // Output.

  template <int n>
  DT_DEVICE void write_output(int t, int at, const tile::Values<float, n>& x) const {
    const int64_t first = value_row(t) * V + column_;
    switch (p_.o_dtype) {
      case DType::bf16:
        tile::global_row(static_cast<BFloat16*>(p_.o) + first, slice).template write<n>(0, at, x);
        return;
      case DType::f16:
        tile::global_row(static_cast<Float16*>(p_.o) + first, slice).template write<n>(0, at, x);
        return;
      default:
        tile::global_row(static_cast<float*>(p_.o) + first, slice).template write<n>(0, at, x);
    }
  }
  DT_DEVICE void write_zeros(int t) const {
    block_.each(slice / 4, [&](int i) { write_output<4>(t, 4 * i, {{0.0F, 0.0F, 0.0F, 0.0F}}); });
  }

  const tile::Block& block_;
  const Params& p_;
  int column_;  // of V, the slice's first
  int head_;
  int sequence_;
  tile::PerLane<float, 4 * kLaneRows> S_;
  tile::PerLane<float, 4> q_;
  tile::PerLane<float, 4> k_;
  tile::PerLane<float, 4> decay_;
  float beta_ = 0.0F;
  float kq_ = 0.0F;  // k.q
};

/// The kernel; blocks are counted along x: slice, then head, then sequence.
template <int channels, int values, int slice, bool v_first, class T>
struct Decode {
  using Params = decoding::Params;
  using Body = DecodeBlock<channels, values, slice, v_first, T>;
  static constexpr int kWarps = Body::kWarps;
  static constexpr int kBlocksPerSm = 2;
  static constexpr int kSharedBytes = Body::kSharedBytes;

  DT_DEVICE void operator()(const tile::Block& block, const Params& p) const { Body(block, p).run(); }
};

}  // namespace deltatape::cuda::kda::decoding
