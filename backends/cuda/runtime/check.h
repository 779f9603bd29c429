// Errors of CUDA calls. For files that see CUDA's headers.
#pragma once

#include <cuda_runtime_api.h>

#include <source_location>
#include <string_view>

#include "core/device.h"

namespace deltatape::cuda {

[[noreturn]] void fail_cuda(cudaError_t error, std::string_view call, Device device, std::source_location where);

/// Throws Error that names the call, its place in the source, the device and what CUDA says, unless `error` is none.
/// A fault in a kernel is found by some later call; CUDA_LAUNCH_BLOCKING=1 makes every launch wait for its kernel.
inline void check_cuda(cudaError_t error, std::string_view call, Device device,
                       std::source_location where = std::source_location::current()) {
  if (error != cudaSuccess) [[unlikely]] {
    fail_cuda(error, call, device, where);
  }
}

}  // namespace deltatape::cuda
