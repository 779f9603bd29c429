// Decays inside a chunk, per lane. Prep, in forward and in backward, makes log decays (base 2, f32) and sums them with
// these functions, in this order, so that both passes see the same bits. B3 (backward_main.h) sums in another order,
// and with expf(A_log): its decays are the same up to the last bits of an f32, far below the rounding of its operands.
//
// Rows are summed in blocks of 8, from the first row of a block on or from its last row back. The log decay between
// any two rows that a kernel needs is such a sum plus the totals of whole blocks between: sums of parts, never a
// difference of sums. So no exponent is positive where no log decay is, and a weak decay behind a strong one, or behind
// -inf, keeps its digits.
#pragma once

#include "backends/cuda/kda/tile/numbers.h"
#include "backends/kda.h"

namespace deltatape::cuda::kda::v1 {

using deltatape::kda::Gate;

/// Rows of a block.
inline constexpr int kBlock = 8;

/// The gate of one value head.
struct HeadGate {
  Gate gate = Gate::none;
  float a = 1.0F;            // exp(A_log)
  float lower_bound = 0.0F;  // of Gate::lower_bound
};

/// log2(1 + 2^-y) for y >= 0: from the series where the logarithm's argument is near 1.
DT_DEVICE float log2_one_plus_ex2(float minus_y) {
  const float t = tile::ex2(minus_y);
  constexpr float kSmall = 0.0625F;
  const float series = t * (1.0F + t * (-0.5F + t * (1.0F / 3.0F + t * (-0.25F + t * 0.2F))));
  return t < kSmall ? tile::kLog2E * series : tile::lg2(1.0F + t);
}

/// The log decay in base 2 of the raw gate value `x` (a logit, or with Gate::none a natural log decay); `bias` is its
/// dt_bias.
DT_DEVICE float log2_decay(const HeadGate& head, float x, float bias) {
  if (head.gate == Gate::none) {
    return tile::kLog2E * x;
  }
  const float z = x + bias;
  if (head.gate == Gate::standard) {
    const float y = tile::kLog2E * z;
    return -head.a * (fmaxf(y, 0.0F) + log2_one_plus_ex2(-fabsf(y)));
  }
  return tile::kLog2E * head.lower_bound * tile::sigmoid(head.a * z);
}

/// Log decays of a block's rows in two neighbouring channels.
struct BlockDecay {
  float g[kBlock][2];
};

/// Two numbers that belong to two neighbouring channels.
struct ChannelPair {
  float x[2] = {0.0F, 0.0F};
  DT_DEVICE ChannelPair& operator+=(const float (&y)[2]) {
    x[0] += y[0];
    x[1] += y[1];
    return *this;
  }
};
DT_DEVICE ChannelPair operator+(const ChannelPair& a, const ChannelPair& b) {
  return {{a.x[0] + b.x[0], a.x[1] + b.x[1]}};
}
DT_DEVICE ChannelPair ex2(const ChannelPair& a) { return {{tile::ex2(a.x[0]), tile::ex2(a.x[1])}}; }

/// f(row, sum): the log decay from the block's start through each row, rows 0 .. 7 in turn.
template <class F>
DT_DEVICE void through_rows(const BlockDecay& block, F&& f) {
  ChannelPair sum;
  tile::unroll<kBlock>([&](auto row) {
    sum += block.g[row];
    f(row, sum);
  });
}
/// f(row, sum): the log decay from behind each row to the block's end, rows 7 .. 0 in turn.
template <class F>
DT_DEVICE void behind_rows(const BlockDecay& block, F&& f) {
  ChannelPair sum;
  tile::unroll<kBlock>([&](auto back) {
    constexpr int kRow = kBlock - 1 - decltype(back)::value;
    f(std::integral_constant<int, kRow>{}, sum);
    sum += block.g[kRow];
  });
}
/// The log decay of the whole block.
DT_DEVICE ChannelPair total_of(const BlockDecay& block) {
  ChannelPair sum;
  tile::unroll<kBlock>([&](auto row) { sum += block.g[row]; });
  return sum;
}

/// A level of the dyadic tree over a chunk's blocks: the chunk is cut into pieces of 2 `half` blocks, and rows of a
/// piece's right half meet columns of its left half at the border between them.
struct Level {
  int half;  // blocks

  [[nodiscard]] DT_DEVICE bool right(int block) const { return (block / half) % 2 == 1; }
  /// Where a block stands among the blocks of its side.
  [[nodiscard]] DT_DEVICE int place(int block) const { return block / (2 * half) * half + block % half; }
  /// The blocks between a block and the border: [first, last).
  [[nodiscard]] DT_DEVICE int first_between(int block) const { return right(block) ? block / half * half : block + 1; }
  [[nodiscard]] DT_DEVICE int last_between(int block) const {
    return right(block) ? block : block / half * half + half;
  }
};

}  // namespace deltatape::cuda::kda::v1
