#include "backends/cuda/runtime/memory.h"

#include <cuda_runtime_api.h>

#include <cstdint>
#include <cstdio>
#include <limits>
#include <mutex>
#include <vector>

#include "backends/cuda/graph_memory.h"
#include "backends/cuda/runtime/check.h"
#include "backends/cuda/runtime/device.h"
#include "core/device_memory.h"
#include "core/error.h"
#include "core/storage.h"

namespace deltatape {
namespace cuda {
namespace {

cudaStream_t handle(const Stream& stream) { return static_cast<cudaStream_t>(stream.handle()); }

// The device's own pool, told once to keep what it has: asking the system for memory makes everything wait.
cudaMemPool_t pool(Device device) {
  static auto& mutex = *new std::mutex;  // never destroyed: tensors with static storage duration are freed last
  static auto& pools = *new std::vector<cudaMemPool_t>(static_cast<size_t>(cuda_device_count()), nullptr);
  const std::scoped_lock lock(mutex);
  cudaMemPool_t& known = pools.at(static_cast<size_t>(device.index()));
  if (known == nullptr) {
    cudaMemPool_t found = nullptr;
    check_cuda(cudaDeviceGetDefaultMemPool(&found, device.index()), "cudaDeviceGetDefaultMemPool", device);
    uint64_t keep = std::numeric_limits<uint64_t>::max();
    check_cuda(cudaMemPoolSetAttribute(found, cudaMemPoolAttrReleaseThreshold, &keep), "cudaMemPoolSetAttribute",
               device);
    known = found;
  }
  return known;
}

void check_allocation(cudaError_t error, std::string_view call, size_t bytes, Device device,
                      Place where = Place::here()) {
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    const DeviceMemory memory = device_memory(device);
    fail("Storage::allocate",
         "out of memory on {}: {} bytes were asked for, {} are in use by tensors, {} of {} are free", device, bytes,
         memory.used, memory.free + memory.reserved - memory.used, memory.total);
  }
  check_cuda(error, call, device, where);
}

size_t pool_attribute(Device device, cudaMemPoolAttr attribute) {
  uint64_t value = 0;
  check_cuda(cudaMemPoolGetAttribute(pool(device), attribute, &value), "cudaMemPoolGetAttribute", device);
  return value;
}

}  // namespace

void copy_bytes(void* to, Device to_device, const void* from, Device from_device, size_t bytes, const Stream& stream) {
  if (bytes == 0) {
    return;
  }
  const DeviceGuard guard(stream.device());
  if (GraphMemory* memory = recording_memory(stream.device())) {
    check(!to_device.is_cpu(), "copy", "{} is recording a graph, and nothing can be waited for or read back",
          stream.device());
    from = from_device.is_cpu() ? memory->keep(from, bytes) : from;
  }
  if (!to_device.is_cpu() && !from_device.is_cpu() && !(to_device == from_device)) {
    // The other device's work on this memory goes on before and after the copy.
    const Device other = stream.device() == to_device ? from_device : to_device;
    const Stream others = current_stream(other);
    Event before(other);
    before.record(others);
    before.wait(stream);
    check_cuda(cudaMemcpyPeerAsync(to, to_device.index(), from, from_device.index(), bytes, handle(stream)),
               "cudaMemcpyPeerAsync", stream.device());
    Event after(stream.device());
    after.record(stream);
    after.wait(others);
    return;
  }
  // Host memory that is not pinned has been read, or written, when this returns.
  check_cuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, handle(stream)), "cudaMemcpyAsync", stream.device());
}

void fill_bytes(void* to, unsigned char value, size_t bytes, const Stream& stream) {
  if (bytes > 0) {
    const DeviceGuard guard(stream.device());
    check_cuda(cudaMemsetAsync(to, value, bytes, handle(stream)), "cudaMemsetAsync", stream.device());
  }
}

PinnedMemory::PinnedMemory(size_t bytes) : bytes_(bytes) {
  if (bytes > 0) {
    check_cuda(cudaHostAlloc(&data_, bytes, cudaHostAllocPortable), "cudaHostAlloc", Device::cpu());
  }
}

PinnedMemory::~PinnedMemory() {
  if (data_ != nullptr) {
    cudaFreeHost(data_);
  }
}

DeviceMemory device_memory(Device device) {
  const DeviceGuard guard(device);
  DeviceMemory memory;
  check_cuda(cudaMemGetInfo(&memory.free, &memory.total), "cudaMemGetInfo", device);
  memory.reserved = pool_attribute(device, cudaMemPoolAttrReservedMemCurrent);
  memory.used = pool_attribute(device, cudaMemPoolAttrUsedMemCurrent);
  return memory;
}

void release_cached_device_memory(Device device) {
  check_not_recording("release_cached_device_memory", device);
  const DeviceGuard guard(device);
  // Not synchronize(device): what replays have found is for those who read results.
  check_cuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize", device);
  check_cuda(cudaMemPoolTrimTo(pool(device), 0), "cudaMemPoolTrimTo", device);
}

void* take_system_block(size_t bytes, Device device) {
  const DeviceGuard guard(device);
  void* block = nullptr;
  cudaError_t error = cudaMalloc(&block, bytes);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    cudaMemPoolTrimTo(pool(device), 0);
    error = cudaMalloc(&block, bytes);
  }
  check_allocation(error, "cudaMalloc", bytes, device);
  return block;
}

void put_system_block(void* block, size_t /*bytes*/, Device device) noexcept {
  try {
    const DeviceGuard guard(device);
    cudaFree(block);
  } catch (const Error&) {  // the driver is gone, and the memory with it
  }
}

}  // namespace cuda

void* allocate_on_device(size_t bytes, Device device) {
  using namespace cuda;
  if (bytes == 0) {
    return nullptr;
  }
  const Stream stream = current_stream(device);
  void* data = nullptr;
  if (GraphMemory* memory = recording_memory(device)) {
    data = memory->take(bytes);
  } else {
    const DeviceGuard guard(device);
    const auto take = [&] { return cudaMallocFromPoolAsync(&data, bytes, pool(device), handle(stream)); };
    cudaError_t error = take();
    if (error == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      release_cached_device_memory(device);  // what was freed on other streams, and pieces too small
      error = take();
    }
    check_allocation(error, "cudaMallocFromPoolAsync", bytes, device);
  }
  if (memory_checks_enabled()) {
    fill_bytes(data, 0xFF, bytes, stream);  // NaN in every floating-point type
  }
  return data;
}

void free_on_device(void* data, size_t bytes, Device device) noexcept {
  using namespace cuda;
  if (data == nullptr) {
    return;
  }
  int ignored = 0;
  if (cudaGetDevice(&ignored) == cudaErrorCudartUnloading) {
    return;  // the program ends, and the memory goes with it
  }
  try {
    if (free_after_recording(data, data, bytes, device) || give_back_to_graph(data)) {
      return;
    }
    const DeviceGuard guard(device);
    const cudaError_t error = cudaFreeAsync(data, handle(current_stream(device)));
    if (error != cudaSuccess && error != cudaErrorCudartUnloading) {
      std::fprintf(stderr, "deltatape: cudaFreeAsync failed: %s\n", cudaGetErrorString(error));
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "deltatape: memory on a device could not be freed: %s\n", error.what());
  }
}

}  // namespace deltatape
