// Pretend devices.
#include "backends/cuda/runtime/device.h"

#include <utility>

#include "backends/cuda/host/schedule.h"

namespace deltatape {

std::string cuda_unavailable_reason() { return ""; }

int cuda_device_count() { return cuda::host::kDevices; }

namespace cuda {

namespace host {
namespace {

DeviceProperties& properties_of_thread() {
  thread_local DeviceProperties properties{"host twin", 9, 0, 132, kMemory, size_t{227} << 10, size_t{50} << 20};
  return properties;
}

std::string& architectures_of_thread() {
  thread_local std::string architectures = "host";
  return architectures;
}

}  // namespace

PretendedDevice::PretendedDevice(int major, int multiprocessors, size_t shared_per_block)
    : major_(properties_of_thread().major),
      multiprocessors_(properties_of_thread().multiprocessors),
      shared_per_block_(properties_of_thread().shared_per_block) {
  DeviceProperties& properties = properties_of_thread();
  properties.major = major;
  properties.multiprocessors = multiprocessors;
  properties.shared_per_block = shared_per_block;
}

PretendedDevice::~PretendedDevice() {
  DeviceProperties& properties = properties_of_thread();
  properties.major = major_;
  properties.multiprocessors = multiprocessors_;
  properties.shared_per_block = shared_per_block_;
}

PretendedArchitectures::PretendedArchitectures(std::string architectures)
    : previous_(std::exchange(architectures_of_thread(), std::move(architectures))) {}
PretendedArchitectures::~PretendedArchitectures() { architectures_of_thread() = previous_; }

}  // namespace host

const DeviceProperties& device_properties(Device /*device*/) { return host::properties_of_thread(); }

std::string driver_version() { return "host"; }
std::string runtime_version() { return "host"; }
std::string compiled_architectures() { return host::architectures_of_thread(); }

DeviceGuard::DeviceGuard(Device /*device*/) {}
DeviceGuard::~DeviceGuard() = default;

}  // namespace cuda
}  // namespace deltatape
