// Errors of CUDA calls. For files that see CUDA's headers.
#pragma once

#include <cuda_runtime_api.h>

#include <string_view>

#include "backends/cuda/runtime/place.h"
#include "core/device.h"

namespace deltatape::cuda {

[[noreturn]] void fail_cuda(cudaError_t error, std::string_view call, Device device, Place where);

/// Throws Error that names the call, its place in the source, the device and what CUDA says, unless `error` is none.
/// A fault in a kernel is found by some later call; CUDA_LAUNCH_BLOCKING=1 makes every launch wait for its kernel.
inline void check_cuda(cudaError_t error, std::string_view call, Device device, Place where = Place::here()) {
  if (error != cudaSuccess) [[unlikely]] {
    fail_cuda(error, call, device, where);
  }
}

}  // namespace deltatape::cuda
