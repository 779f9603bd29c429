#include "harness/plugin/device_memory.h"

#include <dlfcn.h>

#include <array>

#include "core/error.h"

namespace deltatape::harness::plugin {
namespace {

constexpr std::array<const char*, 4> kLibraries = {"libcudart.so.13", "libcudart.so.12", "libcudart.so",
                                                   "/usr/local/cuda/lib64/libcudart.so"};
constexpr int kHostToDevice = 1;  // cudaMemcpyKind
constexpr int kDeviceToHost = 2;

/// The one that the plugin brought along, if it did, else the first that there is. Never closed: CUDA keeps threads.
void* load_runtime() {
  for (const int only_loaded : {RTLD_NOLOAD, 0}) {
    for (const char* name : kLibraries) {
      if (void* library = ::dlopen(name, RTLD_NOW | RTLD_LOCAL | only_loaded)) {
        return library;
      }
    }
  }
  fail("plugin", "there is no libcudart.so.13, libcudart.so.12 or libcudart.so, expected the CUDA run-time library");
}

template <class Function>
Function find_function(void* library, const char* name) {
  void* function = ::dlsym(library, name);
  check(function != nullptr, "plugin", "the CUDA run-time library has no function {}", name);
  return reinterpret_cast<Function>(function);
}

}  // namespace

DeviceMemory::DeviceMemory() {
  void* library = load_runtime();
  malloc_ = find_function<Malloc>(library, "cudaMalloc");
  free_ = find_function<Free>(library, "cudaFree");
  memcpy_ = find_function<Memcpy>(library, "cudaMemcpy");
  synchronize_ = find_function<Synchronize>(library, "cudaDeviceSynchronize");
  error_string_ = find_function<ErrorString>(library, "cudaGetErrorString");
  reserve(1);
}

DeviceMemory::~DeviceMemory() {
  if (block_ != nullptr) {
    free_(block_);
  }
}

char* DeviceMemory::reserve(size_t bytes) {
  if (bytes > bytes_) {
    if (block_ != nullptr) {
      check_call("cudaFree", free_(block_));
      block_ = nullptr;
      bytes_ = 0;
    }
    void* block = nullptr;
    check_call("cudaMalloc", malloc_(&block, bytes));
    block_ = static_cast<char*>(block);
    bytes_ = bytes;
  }
  return block_;
}

void DeviceMemory::copy_from_host(const char* host, size_t bytes) {
  check_call("cudaMemcpy", memcpy_(block_, host, bytes, kHostToDevice));
}

void DeviceMemory::copy_to_host(char* host, size_t bytes) {
  check_call("cudaMemcpy", memcpy_(host, block_, bytes, kDeviceToHost));
}

void DeviceMemory::synchronize() { check_call("cudaDeviceSynchronize", synchronize_()); }

void DeviceMemory::check_call(const char* function, int error) const {
  check(error == 0, function, "{}", error == 0 ? "" : error_string_(error));
}

}  // namespace deltatape::harness::plugin
