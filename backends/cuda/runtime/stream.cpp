#include "backends/cuda/runtime/stream.h"

#include <cuda_runtime_api.h>

#include <mutex>
#include <vector>

#include "backends/cuda/graph_memory.h"
#include "backends/cuda/runtime/blas.h"
#include "backends/cuda/runtime/check.h"
#include "backends/cuda/runtime/default_stream.h"
#include "backends/cuda/runtime/device.h"

namespace deltatape {
namespace cuda {
namespace {

cudaStream_t handle(const Stream& stream) { return static_cast<cudaStream_t>(stream.handle()); }

cudaStream_t new_stream(Device device) {
  const DeviceGuard guard(device);
  cudaStream_t stream = nullptr;
  check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags", device);
  return stream;
}

}  // namespace

Stream Stream::create(Device device) {
  Stream stream(device, new_stream(device));
  stream.owner_ = std::shared_ptr<void>(stream.handle_, [device](void* owned) {
    release_products({device, owned});  // another stream may come to have this handle
    cudaStreamDestroy(static_cast<cudaStream_t>(owned));
  });
  return stream;
}

// Never destroyed: tensors with static storage duration are freed after every other static object.
Stream default_stream(Device device) {
  static auto& mutex = *new std::mutex;
  static auto& streams = *new std::vector<cudaStream_t>(static_cast<size_t>(cuda_device_count()), nullptr);
  const std::scoped_lock lock(mutex);
  cudaStream_t& stream = streams.at(static_cast<size_t>(device.index()));
  if (stream == nullptr) {
    stream = new_stream(device);
  }
  return {device, stream};
}

Event::Event(Device device) : device_(device) {
  const DeviceGuard guard(device);
  cudaEvent_t event = nullptr;
  check_cuda(cudaEventCreate(&event), "cudaEventCreate", device);
  handle_ = std::shared_ptr<void>(event, [](void* owned) { cudaEventDestroy(static_cast<cudaEvent_t>(owned)); });
}

void Event::record(const Stream& stream) {
  const DeviceGuard guard(stream.device());
  check_cuda(cudaEventRecord(static_cast<cudaEvent_t>(handle_.get()), handle(stream)), "cudaEventRecord", device_);
}

void Event::wait(const Stream& stream) const {
  const DeviceGuard guard(stream.device());
  check_cuda(cudaStreamWaitEvent(handle(stream), static_cast<cudaEvent_t>(handle_.get()), 0), "cudaStreamWaitEvent",
             device_);
}

void Event::synchronize() const {
  check_cuda(cudaEventSynchronize(static_cast<cudaEvent_t>(handle_.get())), "cudaEventSynchronize", device_);
}

bool Event::passed() const {
  const cudaError_t error = cudaEventQuery(static_cast<cudaEvent_t>(handle_.get()));
  if (error == cudaErrorNotReady) {
    cudaGetLastError();
    return false;
  }
  check_cuda(error, "cudaEventQuery", device_);
  return true;
}

double Event::milliseconds_since(const Event& start) const {
  float milliseconds = 0.0F;
  check_cuda(cudaEventElapsedTime(&milliseconds, static_cast<cudaEvent_t>(start.handle_.get()),
                                  static_cast<cudaEvent_t>(handle_.get())),
             "cudaEventElapsedTime", device_);
  return static_cast<double>(milliseconds);
}

void synchronize(const Stream& stream) {
  check_not_recording("synchronize", stream.device());
  const DeviceGuard guard(stream.device());
  check_cuda(cudaStreamSynchronize(handle(stream)), "cudaStreamSynchronize", stream.device());
  check_replays(stream.device());
}

}  // namespace cuda

void synchronize(Device device) {
  if (!device.is_cpu()) {
    cuda::check_not_recording("synchronize", device);
    const cuda::DeviceGuard guard(device);
    cuda::check_cuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize", device);
    cuda::check_replays(device);
  }
}

}  // namespace deltatape
