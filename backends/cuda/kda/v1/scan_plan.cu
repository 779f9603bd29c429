#include <algorithm>
#include <limits>

#include "backends/cuda/kda/v1/kernels.h"
#include "backends/cuda/kda/v1/scan_plan.h"

namespace deltatape::cuda::kda::v1 {
namespace {

constexpr int kMostWarps = 8;
constexpr int64_t kReservedBytes = 1024;  // of shared memory per block, by the system
constexpr int64_t kWarpsInRegisters = 8;  // of a multiprocessor, with up to 255 registers a lane

/// Blocks with this much shared memory that a multiprocessor holds; 0 where it holds none.
int64_t blocks_at_a_time(int warps, int bytes, const DeviceProperties& device) {
  const int64_t memory = static_cast<int64_t>(device.shared_per_block) + kReservedBytes;
  return std::min(memory / (bytes + kReservedBytes), kWarpsInRegisters / warps);
}

int64_t waves(int64_t blocks, int64_t at_a_time, const DeviceProperties& device) {
  const int64_t slots = std::max(1, device.multiprocessors) * at_a_time;
  return (std::max<int64_t>(1, blocks) + slots - 1) / slots;
}

/// Cycles per chunk: a warp reads all operands from shared memory (about 450), a step has a latency of its own (700),
/// and copies are split over the warps.
double chunk_cycles(int warps, double operands) { return 700.0 + operands * (450.0 * warps + 800.0 / warps); }

}  // namespace

ScanPlan plan_scan(int64_t V, int C, int K, int64_t states, const DeviceProperties& device) {
  const int64_t tiles = V / kRowsOfWarp;
  ScanPlan best{.warps = 1, .slices = static_cast<int>(tiles), .stages = 2};
  double least = std::numeric_limits<double>::infinity();
  for (int warps = kMostWarps; warps >= 1; --warps) {
    const int64_t with_two = blocks_at_a_time(warps, scan_shared_bytes(C, K, warps, 2), device);
    if (tiles % warps != 0 || with_two == 0) {
      continue;
    }
    const int64_t blocks = states * (tiles / warps);
    const int64_t waves_of_two = waves(blocks, with_two, device);
    const double cycles = static_cast<double>(waves_of_two) * chunk_cycles(warps, 1.0);
    if (cycles < least) {
      least = cycles;
      const int64_t with_three = blocks_at_a_time(warps, scan_shared_bytes(C, K, warps, 3), device);
      const bool three = with_three > 0 && waves(blocks, with_three, device) <= waves_of_two;
      best = {.warps = warps, .slices = static_cast<int>(tiles / warps), .stages = three ? 3 : 2};
    }
  }
  return best;
}

double scan_cycles(const ScanPlan& plan, int C, int K, int64_t states, double longest, double mean, double operands,
                   const DeviceProperties& device) {
  const int64_t at_a_time = blocks_at_a_time(plan.warps, scan_shared_bytes(C, K, plan.warps, plan.stages), device);
  const auto turns = static_cast<double>(waves(states * plan.slices, std::max<int64_t>(1, at_a_time), device));
  return std::max(longest, turns * mean) * chunk_cycles(plan.warps, operands);
}

}  // namespace deltatape::cuda::kda::v1
