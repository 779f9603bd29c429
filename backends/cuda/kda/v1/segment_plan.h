// How long sequences are cut into segments that are scanned at once, where few states would leave multiprocessors idle.
#pragma once

#include <cstdint>
#include <optional>

#include "backends/cuda/kda/v1/scan_plan.h"
#include "backends/kda.h"

namespace deltatape::cuda::kda::v1 {

using namespace deltatape::kda;  // the problem and its buffers

/// Into how many segments of `chunks` a sequence of `sequence` chunks is cut; 0: it stays whole. So it does where there
/// would be two: the second could not begin before the first has ended.
constexpr int64_t parts_of_sequence(int64_t sequence, int64_t chunks) {
  return chunks > 0 && sequence > 2 * chunks ? (sequence + chunks - 1) / chunks : 1;
}

/// How the sequences of a call are cut. Depends on lengths, sizes and the device alone.
struct SegmentPlan {
  int64_t chunks = 0;    // of a segment; 0: all sequences stay whole. A sequence of at most twice as many does, too
  int64_t segments = 0;  // of all sequences together; those that stay whole count as one
  int64_t chains = 0;    // sequences that are cut
  int64_t maps = 0;      // segments between the first and the last of their sequences
  ScanPlan scan;         // of the scans that find what segments do; a block's warps divide both V / 16 and K / 16
  double gain = 1;       // predicted: how many times as long the scans take without
  [[nodiscard]] bool cut() const { return chains > 0; }
};

/// Cuts where scans are predicted to take less than two thirds of their time by it. `chunks`: segments of that many, a
/// multiple of those between states in `h`, instead of what the prediction chooses; 0: none.
SegmentPlan plan_segments(const KernelProblem& problem, int C, bool backward, const DeviceProperties& device,
                          std::optional<int64_t> chunks = {});

/// Bytes of working memory of a cut: what segments start with (and their gradients end with), and the maps.
int64_t segment_bytes(const KernelProblem& problem, const SegmentPlan& plan, bool backward);

}  // namespace deltatape::cuda::kda::v1
