// How long sequences are cut into segments that are scanned at once, where few states would leave multiprocessors idle.
#pragma once

#include <cstdint>
#include <optional>

#include "backends/cuda/kda/v1/scan_plan.h"
#include "backends/kda.h"

namespace deltatape::cuda::kda::v1 {

using namespace deltatape::kda;  // the problem and its buffers

/// How many segments of `chunks` chunks a sequence of `sequence` chunks is cut into. 1: it stays whole, as for
/// `chunks` = 0 and where there would be two, since the second could not begin before the first has ended.
constexpr int64_t parts_of_sequence(int64_t sequence, int64_t chunks) {
  return chunks > 0 && sequence > 2 * chunks ? (sequence + chunks - 1) / chunks : 1;
}

/// How the sequences of a call are cut. Depends on lengths, sizes and the device, and on whether there is room.
struct SegmentPlan {
  int64_t chunks = 0;    // of a segment; 0: all sequences stay whole. A sequence of at most twice as many does, too
  int64_t segments = 0;  // of all sequences together; those that stay whole count as one
  int64_t chains = 0;    // sequences that are cut
  int64_t maps = 0;      // segments between the first and the last of their sequences
  int64_t states = 0;    // segments that begin with a state: all but the first of sequences that are given none
  int64_t ends = 0;      // segments whose end has a gradient: all but the last of sequences without a final state
  ScanPlan scan;         // of the scans that find what segments do; a block's warps divide both V / 16 and K / 16
  double gain = 1;       // predicted: how many times as long the scans take without
  [[nodiscard]] bool cut() const { return chains > 0; }
};

/// Cuts where scans are predicted to take less than two thirds of their time by it, and segment_bytes are at most
/// `room`. `chunks`: segments of that many, a multiple of those between states in `h`, instead of what the prediction
/// chooses, whatever they take; 0: none.
SegmentPlan plan_segments(const KernelProblem& problem, int C, bool backward, const DeviceProperties& device,
                          int64_t room, std::optional<int64_t> chunks = {});

/// The problem with state_in of -1 unless initial states are `given`, and state_out of -1 unless final states, or their
/// gradients, are `wanted`: a call numbers its sequences either way, and no memory is for states that are not there.
KernelProblem with_states(KernelProblem problem, bool given, bool wanted);

/// Bytes of working memory of a cut, for all value heads: what segments start with (and the gradients of what they end
/// with), and the maps.
int64_t segment_bytes(const KernelProblem& problem, const SegmentPlan& plan, bool backward);

}  // namespace deltatape::cuda::kda::v1
