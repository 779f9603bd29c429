// What tests choose about the host twin: in which order blocks and elements run, when streams work, how much memory
// there is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace deltatape::cuda::host {

/// Devices that the twin pretends to have, and the memory of each.
inline constexpr int kDevices = 2;
inline constexpr size_t kMemory = size_t{16} << 30;

struct Schedule {
  enum class Blocks : uint8_t { forward, backward, shuffled };
  Blocks blocks = Blocks::forward;  // order within one launch
  uint64_t seed = 1;                // of `shuffled`
  bool deferred = false;            // streams work only when they are waited for
};

/// While it lives, what this thread launches follows `schedule`.
class ScheduleGuard {
 public:
  explicit ScheduleGuard(Schedule schedule);
  ~ScheduleGuard();
  ScheduleGuard(const ScheduleGuard&) = delete;
  ScheduleGuard& operator=(const ScheduleGuard&) = delete;

 private:
  Schedule previous_;
};
Schedule schedule();

/// While it lives, each device has this much memory.
class MemoryLimit {
 public:
  explicit MemoryLimit(size_t bytes);
  ~MemoryLimit();
  MemoryLimit(const MemoryLimit&) = delete;
  MemoryLimit& operator=(const MemoryLimit&) = delete;

 private:
  size_t previous_;
};

/// While it lives, this thread's devices have such blocks and multiprocessors: plans are made for them, nothing else
/// changes.
class PretendedDevice {
 public:
  PretendedDevice(int major, int multiprocessors, size_t shared_per_block);
  ~PretendedDevice();
  PretendedDevice(const PretendedDevice&) = delete;
  PretendedDevice& operator=(const PretendedDevice&) = delete;

 private:
  int major_;
  int multiprocessors_;
  size_t shared_per_block_;
};

/// While it lives, this thread's kernels count as compiled for these architectures (`80 90`).
class PretendedArchitectures {
 public:
  explicit PretendedArchitectures(std::string architectures);
  ~PretendedArchitectures();
  PretendedArchitectures(const PretendedArchitectures&) = delete;
  PretendedArchitectures& operator=(const PretendedArchitectures&) = delete;

 private:
  std::string previous_;
};

/// Launches since the process started.
int64_t launches();

}  // namespace deltatape::cuda::host
