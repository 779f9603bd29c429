// The memory behind tensors: reference-counted, 64-byte aligned blocks with a version counter.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "core/device.h"
#include "core/ref_counted.h"

namespace deltatape {

/// One block of memory, shared by all tensors that are views of it.
///
/// With DELTATAPE_CHECK_MEMORY=1 in the environment when the process starts, fresh memory is filled with NaN bytes and
/// has guard zones on both sides; a damaged guard zone ends the process with a message when the block is freed. CUDA
/// memory is filled, but has no guard zones.
class Storage : public RefCounted {
 public:
  /// Fresh, uninitialised memory. Throws Error when the device has none left.
  static Ref<Storage> allocate(size_t bytes, Device device);
  /// Memory owned by somebody else; `release`, unless empty, runs when the last tensor lets go.
  static Ref<Storage> wrap(void* data, size_t bytes, Device device, std::function<void()> release);

  [[nodiscard]] void* data() const { return data_; }
  [[nodiscard]] size_t bytes() const { return bytes_; }
  [[nodiscard]] Device device() const { return device_; }

  /// Counts writes after creation: a tensor saved for backward remembers it and notices that it was overwritten.
  [[nodiscard]] uint32_t version() const { return version_.load(std::memory_order_relaxed); }
  /// Not a read-modify-write: two threads that write one tensor race anyway, and this is on every op's path.
  void bump_version() { version_.store(version() + 1, std::memory_order_relaxed); }

  /// False when a guard zone was written to. Always true without DELTATAPE_CHECK_MEMORY and for CUDA memory.
  [[nodiscard]] bool guards_intact() const;

 private:
  friend void destroy(Storage* storage) noexcept;
  Storage(void* data, size_t bytes, Device device) : data_(data), bytes_(bytes), device_(device) {}

  void* data_;
  size_t bytes_;
  Device device_;
  std::atomic<uint32_t> version_{0};
  std::unique_ptr<std::function<void()>> foreign_release_;  // set only by wrap
};

void destroy(Storage* storage) noexcept;

/// Bytes in tensors' storages of this process, by device type.
struct MemoryStats {
  int64_t live_bytes = 0;
  int64_t peak_bytes = 0;  // highest live_bytes since the start or the last reset
  int64_t allocations = 0;
};
MemoryStats memory_stats(DeviceType type = DeviceType::cpu);
void reset_peak_memory(DeviceType type = DeviceType::cpu);

/// Whether this process runs with DELTATAPE_CHECK_MEMORY=1.
bool memory_checks_enabled();

}  // namespace deltatape
