// Pretend devices.
#include "backends/cuda/runtime/device.h"

#include "backends/cuda/host/schedule.h"

namespace deltatape {

std::string cuda_unavailable_reason() { return ""; }

int cuda_device_count() { return cuda::host::kDevices; }

namespace cuda {

const DeviceProperties& device_properties(Device /*device*/) {
  static const DeviceProperties properties{"host twin", 9, 0, 132, host::kMemory, size_t{227} << 10, size_t{50} << 20};
  return properties;
}

std::string driver_version() { return "host"; }
std::string runtime_version() { return "host"; }
std::string compiled_architectures() { return "host"; }

DeviceGuard::DeviceGuard(Device /*device*/) {}
DeviceGuard::~DeviceGuard() = default;

}  // namespace cuda
}  // namespace deltatape
