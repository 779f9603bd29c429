// CUDA devices: how many there are, what they are, and which one calls go to.
#pragma once

#include <cstddef>
#include <string>

#include "core/device.h"

namespace deltatape::cuda {

struct DeviceProperties {
  std::string name;
  int major = 0;  // compute capability
  int minor = 0;
  int multiprocessors = 0;
  size_t total_memory = 0;      // bytes
  size_t shared_per_block = 0;  // bytes of shared memory that one block can have at most
  size_t l2_bytes = 0;
};

/// Asked once per process and device.
const DeviceProperties& device_properties(Device device);

/// `13.0`: what the driver supports, and what the backend was compiled with.
std::string driver_version();
std::string runtime_version();
/// `80 90a`: what the kernels were compiled for; `host` on the host twin.
std::string compiled_architectures();

/// While it lives, calls of this thread go to `device`.
class DeviceGuard {
 public:
  explicit DeviceGuard(Device device);
  ~DeviceGuard();  // NOLINT(performance-trivially-destructible): only the host twin's does nothing
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  [[maybe_unused]] int previous_ = 0;
};

}  // namespace deltatape::cuda
