#include "backends/cuda/runtime/device.h"

#include <cuda_runtime_api.h>

#include <deque>
#include <mutex>

#include "backends/cuda/architectures.h"
#include "backends/cuda/runtime/check.h"
#include "core/error.h"

namespace deltatape {
namespace {

struct Devices {
  int count = 0;
  std::string reason;
};

// The first of `count` devices: those up to one that the kernels were not compiled for. CUDA puts the fastest first.
Devices with_kernels(int count) {
  for (int index = 0; index < count; ++index) {
    int major = 0;
    int minor = 0;
    cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, index);
    cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, index);
    if (!cuda::runs_on(DELTATAPE_CUDA_ARCHITECTURES, major, minor)) {
      return {index, index > 0 ? ""
                               : fmt::format("cuda:0 is of compute capability {}.{}, and the kernels are for sm {}",
                                             major, minor, DELTATAPE_CUDA_ARCHITECTURES)};
    }
  }
  return {count, ""};
}

Devices ask_for_devices() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaSuccess && count > 0) {
    return with_kernels(count);
  }
  cudaGetLastError();  // the error is kept here, and no later call is to report it
  int driver = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) {
    return {0, "no CUDA driver is installed"};
  }
  if (error == cudaErrorInsufficientDriver) {
    return {0, fmt::format("the CUDA driver is for version {}, expected {} or later", cuda::driver_version(),
                           cuda::runtime_version())};
  }
  if (error == cudaErrorNoDevice || error == cudaSuccess) {
    return {0, "the CUDA driver finds no device"};
  }
  return {0, fmt::format("the CUDA driver says: {}", cudaGetErrorString(error))};
}

const Devices& devices() {
  static const Devices& found = *new Devices(ask_for_devices());  // tensors with static storage duration are freed last
  return found;
}

std::string dotted(int version) { return fmt::format("{}.{}", version / 1000, version % 1000 / 10); }

}  // namespace

std::string cuda_unavailable_reason() { return devices().reason; }

int cuda_device_count() { return devices().count; }

namespace cuda {

void fail_cuda(cudaError_t error, std::string_view call, Device device, Place where) {
  cudaGetLastError();
  fail(call, "failed on {} at {}: {}", device, where.text(), cudaGetErrorString(error));
}

const DeviceProperties& device_properties(Device device) {
  static auto& mutex = *new std::mutex;
  static auto& known = *new std::deque<DeviceProperties>(static_cast<size_t>(cuda_device_count()));
  const std::scoped_lock lock(mutex);
  DeviceProperties& properties = known.at(static_cast<size_t>(device.index()));
  if (properties.name.empty()) {
    cudaDeviceProp asked{};
    check_cuda(cudaGetDeviceProperties(&asked, device.index()), "cudaGetDeviceProperties", device);
    properties = {asked.name,
                  asked.major,
                  asked.minor,
                  asked.multiProcessorCount,
                  asked.totalGlobalMem,
                  asked.sharedMemPerBlockOptin,
                  static_cast<size_t>(asked.l2CacheSize)};
  }
  return properties;
}

std::string driver_version() {
  int version = 0;
  cudaDriverGetVersion(&version);
  return dotted(version);
}

std::string runtime_version() { return dotted(CUDART_VERSION); }

std::string compiled_architectures() { return DELTATAPE_CUDA_ARCHITECTURES; }

DeviceGuard::DeviceGuard(Device device) {
  check_cuda(cudaGetDevice(&previous_), "cudaGetDevice", device);
  if (previous_ == device.index()) {
    previous_ = -1;
  } else {
    check_cuda(cudaSetDevice(device.index()), "cudaSetDevice", device);
  }
}

DeviceGuard::~DeviceGuard() {
  if (previous_ >= 0) {
    cudaSetDevice(previous_);
  }
}

}  // namespace cuda
}  // namespace deltatape
