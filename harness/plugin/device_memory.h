// CUDA memory for plugins that want device pointers. The CUDA run-time library is looked for when the program runs, so
// that a build without CUDA can check them, too.
#pragma once

#include <cstddef>
#include <string>

namespace deltatape::harness::plugin {

/// One block of memory of the current device. Every function throws Error with the runtime's words when it fails, such
/// as `cudaMemcpy: an illegal memory access was encountered`.
class DeviceMemory {
 public:
  /// Loads libcudart and makes sure that there is a device. Throws Error that says what is not there.
  DeviceMemory();
  ~DeviceMemory();
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  /// The block, with at least `bytes` bytes; what it held is lost when it has to grow.
  char* reserve(size_t bytes);
  void copy_from_host(const char* host, size_t bytes);
  void copy_to_host(char* host, size_t bytes);
  /// Waits until everything that was started is done.
  void synchronize();

 private:
  // As cuda_runtime_api.h declares them, its enumerations being ints.
  using Malloc = int (*)(void** pointer, size_t bytes);
  using Free = int (*)(void* pointer);
  using Memcpy = int (*)(void* to, const void* from, size_t bytes, int kind);
  using Synchronize = int (*)();
  using ErrorString = const char* (*)(int error);

  void check_call(const char* function, int error) const;

  Malloc malloc_ = nullptr;
  Free free_ = nullptr;
  Memcpy memcpy_ = nullptr;
  Synchronize synchronize_ = nullptr;
  ErrorString error_string_ = nullptr;
  char* block_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace deltatape::harness::plugin
