// Copies between memories, and the host memory that copies are quickest from. Blocks on a device come from
// core/device_memory.h.
#pragma once

#include <cstddef>

#include "backends/cuda/runtime/stream.h"
#include "core/device.h"

namespace deltatape::cuda {

/// Copies `bytes` from one device's memory (the host's included) to another's, on `stream`, a stream of a CUDA device
/// that takes part. When it returns, host memory copied from may be used again, and host memory copied to is complete,
/// unless it is pinned: then the stream must be waited for.
void copy_bytes(void* to, Device to_device, const void* from, Device from_device, size_t bytes, const Stream& stream);
/// Sets `bytes` of device memory to `value` each.
void fill_bytes(void* to, unsigned char value, size_t bytes, const Stream& stream);

/// Host memory that a device reads and writes by itself, so that copies do not keep the host waiting.
class PinnedMemory {
 public:
  explicit PinnedMemory(size_t bytes);
  ~PinnedMemory();
  PinnedMemory(const PinnedMemory&) = delete;
  PinnedMemory& operator=(const PinnedMemory&) = delete;
  [[nodiscard]] void* data() const { return data_; }
  [[nodiscard]] size_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  size_t bytes_;
};

/// Bytes of a device's memory.
struct DeviceMemory {
  size_t total = 0;
  size_t free = 0;      // not reserved by any process
  size_t reserved = 0;  // by this process' pool, from the system
  size_t used = 0;      // of that, in tensors
};
DeviceMemory device_memory(Device device);
/// Gives what the pool keeps for reuse back to the system.
void release_cached_device_memory(Device device);

}  // namespace deltatape::cuda
