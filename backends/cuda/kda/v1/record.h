// What prep hands to the scans: one record per chunk and value head, contiguous, so that a scan copies it as it lies.
#pragma once

#include <cstddef>
#include <cstdint>

namespace deltatape::cuda::kda::v1 {

/// Byte offsets in a record of a chunk of C rows with K channels. The matrices are images of tiles of bf16, w, kg and
/// qg in the layout that prep was asked for (v1: tile::Swizzled, v2: tile::Panels), Aqk with tile::Swizzled rows, which
/// for 64 columns are both; rows beyond the end of the sequence are zeros.
template <int C, int K>
struct Record {
  static constexpr int kMatrix = C * K * 2;
  static constexpr int kW = 0;                     // [C,K], minus w: what the state loses
  static constexpr int kKg = kW + kMatrix;         // [C,K], k 2^(G_last - G)
  static constexpr int kQg = kKg + kMatrix;        // [C,K], scale q 2^G
  static constexpr int kAqk = kQg + kMatrix;       // [C,C], with scale, zeros above the diagonal
  static constexpr int kDecay = kAqk + C * C * 2;  // f32 [K], 2^G_last
  static constexpr int kBeta = kDecay + K * 4;     // f32 [C], after sigmoid and factor
  static constexpr int kBytes = kBeta + C * 4;
  static constexpr int kSolvedBytes = C * C * 2;  // of A, bf16 [C,C], swizzled too, in an array of its own
  static_assert(kBytes % 128 == 0);
};

/// Which record belongs to a chunk and the h-th of `heads` value heads of a launch.
constexpr int64_t record_index(int64_t chunk, int64_t head, int64_t heads) { return chunk * heads + head; }

}  // namespace deltatape::cuda::kda::v1
