// How the scans of v1 are cut into blocks.
#pragma once

#include <cstdint>

#include "backends/cuda/runtime/device.h"

namespace deltatape::cuda::kda::v1 {

/// Rows of a state, of its V, that a warp has.
inline constexpr int kRowsOfWarp = 16;

/// How the rows of a state, V of them, are spread over warps and blocks.
struct ScanPlan {
  int warps = 4;   // of a block, kRowsOfWarp each
  int slices = 1;  // blocks that make V
  int stages = 2;  // chunks that shared memory holds at a time
};

/// For `states` states that are worked on at the same time: sequences times heads, twice that many where two scans
/// share a launch. V is a multiple of 16. Wide blocks read a chunk once for many rows, narrow ones keep more
/// multiprocessors busy; a third stage hides more of the latency of copies, and is taken where it costs no wave of
/// blocks.
ScanPlan plan_scan(int64_t V, int C, int K, int64_t states, const DeviceProperties& device);

/// A prediction of the cycles of such a scan. `longest` and `mean` are chunks of a state; `operands` is the share of a
/// chunk's operands that the scan reads.
double scan_cycles(const ScanPlan& plan, int C, int K, int64_t states, double longest, double mean, double operands,
                   const DeviceProperties& device);

}  // namespace deltatape::cuda::kda::v1
