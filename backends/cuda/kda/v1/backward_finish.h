// B4: what several chunks, or several value heads, have in common. Sums in a fixed order.
#pragma once

#include "backends/cuda/kda/tile/tile.h"

namespace deltatape::cuda::kda::v1 {

/// The chunks' shares of ddt_bias and dA_log.
struct GateSumArguments {
  const float* shares = nullptr;  // [chunks,heads,2,K]
  float* ddt_bias = nullptr;      // [HV,K] or null
  float* dA_log = nullptr;        // [HV] or null
  int64_t chunks = 0;
  int K = 128;
  int first_head = 0;
  int heads = 1;
};
/// A block per value head: each warp sums a range of chunks, then the ranges are added in order.
struct GateSums {
  using Params = GateSumArguments;
  static constexpr int kWarps = 8;
  static constexpr int kBlocksPerSm = 1;
  static constexpr int kMostChannels = 128;
  using Parts = tile::STile<float, 2 * kWarps, kMostChannels>;
  static constexpr int kSharedBytes = Parts::kBytes;

  DT_DEVICE void operator()(const tile::Block& block, const Params& p) const {
    const auto parts = block.shared<Parts>(0);
    const int64_t each = (p.chunks + kWarps - 1) / kWarps;
    const int64_t first = block.warp() * each;
    const int64_t last = first + each < p.chunks ? first + each : p.chunks;
    for (int channel = 0; channel < p.K; channel += tile::kLanes) {
      tile::each_lane([&](int lane) {
        float bias = 0.0F;
        float A = 0.0F;
        for (int64_t chunk = first; chunk < last; ++chunk) {
          const tile::GTile<const float> shares(p.shares + (chunk * p.heads + block.x) * 2 * p.K, p.K, 2, p.K);
          bias += shares(0, channel + lane);
          A += shares(1, channel + lane);
        }
        parts.set(2 * block.warp(), channel + lane, bias);
        parts.set(2 * block.warp() + 1, channel + lane, A);
      });
    }
    block.sync();
    const int head = p.first_head + block.x;
    if (p.ddt_bias != nullptr) {
      const tile::GTile<float> to(p.ddt_bias + int64_t{head} * p.K, p.K, 1, p.K);
      block.each(p.K, [&](int channel) {
        float sum = 0.0F;
        for (int w = 0; w < kWarps; ++w) {
          sum += parts(2 * w, channel);
        }
        to.set(0, channel, sum);
      });
    }
    if (p.dA_log != nullptr && block.warp() == 0) {
      const float sum = tile::warp_sum([&](int lane) {
        float own = 0.0F;
        for (int channel = lane; channel < p.K; channel += tile::kLanes) {
          for (int w = 0; w < kWarps; ++w) {
            own += parts(2 * w + 1, channel);
          }
        }
        return own;
      });
      const tile::GTile<float> to(p.dA_log + head, 1, 1, 1);
      tile::one_lane([&] { to.set(0, 0, sum); });
    }
  }
};

/// dq (dk) of heads that several value heads share.
struct HeadSumArguments {
  const float* parts = nullptr;  // [rows,heads,K]
  const BFloat16* x = nullptr;   // [rows,H,K], q (k) as it was given
  BFloat16* dx = nullptr;        // [rows,H,K]
  int64_t rows = 0;
  int H = 1;
  int first_head = 0;  // of q, that the launch's first value head belongs to
  int heads = 1;       // value heads of the launch
  int group = 1;       // value heads of a head of q
  bool l2norm = false;
};
/// A warp per row and head of q: the sum over its value heads in order, then the norm's derivative.
template <int K>
struct HeadSums {
  using Params = HeadSumArguments;
  static constexpr int kWarps = 8;
  static constexpr int kBlocksPerSm = 1;
  static constexpr int kSharedBytes = 0;
  static constexpr int kOwn = K / tile::kLanes;  // channels of a lane

  DT_DEVICE void operator()(const tile::Block& block, const Params& p) const {
    const int64_t number = int64_t{block.x} * kWarps + block.warp();
    const int shared_heads = p.heads / p.group;
    const int64_t row = number / shared_heads;
    const int head = static_cast<int>(number % shared_heads);
    if (row >= p.rows) {
      return;
    }
    const tile::GTile<const float> parts(p.parts + (row * p.heads + int64_t{head} * p.group) * K, K, p.group, K);
    const int64_t place = (row * p.H + p.first_head + head) * K;
    const tile::GTile<const BFloat16> x(p.x + place, K, 1, K);
    const tile::GTile<BFloat16> dx(p.dx + place, K, 1, K);
    tile::PerLane<float, kOwn> dy;
    tile::PerLane<float, kOwn> y;
    tile::each_lane([&](int lane) {
      const auto values = x.template read<kOwn>(0, lane * kOwn);
      tile::unroll<kOwn>([&](auto i) {
        dy(lane, i) = 0.0F;
        y(lane, i) = values[i];
      });
      for (int member = 0; member < p.group; ++member) {
        const auto part = parts.template read<kOwn>(member, lane * kOwn);
        tile::unroll<kOwn>([&](auto i) { dy(lane, i) += part[i]; });
      }
    });
    if (p.l2norm) {
      const auto dot = [&](const tile::PerLane<float, kOwn>& a, const tile::PerLane<float, kOwn>& b) {
        return tile::warp_sum([&](int lane) {
          float own = 0.0F;
          tile::unroll<kOwn>([&](auto i) { own += a(lane, i) * b(lane, i); });
          return own;
        });
      };
      const float r = 1.0F / sqrtf(dot(y, y) + 1e-6F);
      const float along = dot(y, dy) * r * r;
      tile::each_lane(
          [&](int lane) { tile::unroll<kOwn>([&](auto i) { dy(lane, i) = r * (dy(lane, i) - along * y(lane, i)); }); });
    }
    tile::each_lane([&](int lane) {
      tile::Values<float, kOwn> values;
      tile::unroll<kOwn>([&](auto i) { values[i] = dy(lane, i); });
      dx.template write<kOwn>(0, lane * kOwn, values);
    });
  }
};

}  // namespace deltatape::cuda::kda::v1
