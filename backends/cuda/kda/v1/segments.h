// What a call keeps and launches for segments of its sequences: segment_scans.h says what they are.
#pragma once

#include <cstdint>

#include "backends/cuda/kda/sequences.h"
#include "backends/cuda/kda/v1/segment_plan.h"
#include "backends/cuda/kda/v1/segment_scans.h"
#include "backends/cuda/runtime/stream.h"

namespace deltatape::cuda::kda::v1 {

/// Tables and memory of a cut call. `launch` finds where segments start; `use` has a scan run over segments.
class Segments {
 public:
  Segments(const KernelProblem& problem, const SegmentPlan& plan, int C, bool backward, Device device);

  /// `scan` is the scan of whole sequences, of the heads to be worked on, and `reverse` the one of gradients, null in
  /// forward.
  void launch(const Stream& stream, const ScanArguments& scan, const ReverseArguments* reverse) const;
  /// Turns the scans of whole sequences into those of segments, plan.segments of them.
  void use(ScanArguments& scan) const;
  void use(ReverseArguments& reverse) const;

 private:
  struct Table {
    int64_t first = 0;  // number in memory
    int64_t count = 0;
  };
  [[nodiscard]] const SequenceEntry* entries(const Table& table) const;

  SegmentPlan plan_;
  int C_;
  int K_;
  Tensor numbers_;     // all tables, one behind the other
  Table segments_;     // for the scan
  Table ends_;         // for the states at their ends
  Table maps_;         // for M
  Table gradients_;    // for the reverse scan
  Table starts_;       // for the gradients at their starts
  Table chains_;       // SegmentChain
  Tensor map_memory_;  // [maps,HV,K,K]
  Tensor states_;      // [states,HV,K,V] ([..,V,K]), what segments start with, where that is not zeros
  Tensor d_states_;    // [ends,HV,K,V], the gradients of what they end with, likewise
};

}  // namespace deltatape::cuda::kda::v1
