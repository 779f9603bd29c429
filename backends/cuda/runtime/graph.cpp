#include "backends/cuda/runtime/graph.h"

#include <cuda_runtime_api.h>

#include <exception>

#include "backends/cuda/graph_memory.h"
#include "backends/cuda/runtime/blas.h"
#include "backends/cuda/runtime/check.h"
#include "backends/cuda/runtime/device.h"
#include "backends/cuda/runtime/memory.h"
#include "backends/cuda/runtime/stream.h"

namespace deltatape::cuda {
namespace {

cudaStream_t handle(const Stream& stream) { return static_cast<cudaStream_t>(stream.handle()); }

}  // namespace

struct Graph::Recorded {
  explicit Recorded(Device device_of_graph)
      : device(device_of_graph), stream(Stream::create(device)), memory(std::make_shared<GraphMemory>(device)) {}
  ~Recorded() {
    if (executable == nullptr) {
      return;
    }
    try {
      const DeviceGuard guard(device);
      cudaDeviceSynchronize();  // replays may be on any of its streams
      cudaGraphExecDestroy(executable);
    } catch (const std::exception&) {  // the driver is gone, and the graph with it
    }
  }
  Recorded(const Recorded&) = delete;
  Recorded& operator=(const Recorded&) = delete;

  Device device;
  Stream stream;  // what is recorded on, and where cuBLAS has working memory of its own for it
  std::shared_ptr<GraphMemory> memory;
  cudaGraphExec_t executable = nullptr;
};

Graph Graph::record(Device device, const std::function<void()>& work) {
  check_not_recording_another();
  Graph result;
  result.recorded_ = std::make_shared<Recorded>(device);
  Recorded& recorded = *result.recorded_;
  const DeviceGuard device_guard(device);
  prepare_products(recorded.stream);
  release_cached_device_memory(device);  // the graph has memory of its own
  const StreamGuard stream_guard(recorded.stream);
  cudaGraph_t graph = nullptr;
  {
    const RecordingGuard guard(recorded.memory);
    // Relaxed: memory is asked for from the system while recording.
    check_cuda(cudaStreamBeginCapture(handle(recorded.stream), cudaStreamCaptureModeRelaxed), "cudaStreamBeginCapture",
               device);
    try {
      work();
    } catch (...) {
      cudaStreamEndCapture(handle(recorded.stream), &graph);
      cudaGetLastError();
      if (graph != nullptr) {
        cudaGraphDestroy(graph);
      }
      throw;
    }
    check_cuda(cudaStreamEndCapture(handle(recorded.stream), &graph), "cudaStreamEndCapture", device);
  }
  const cudaError_t error = cudaGraphInstantiate(&recorded.executable, graph, 0);
  cudaGraphDestroy(graph);
  check_cuda(error, "cudaGraphInstantiate", device);
  return result;
}

void Graph::replay() const {
  const DeviceGuard guard(recorded_->device);
  const Stream stream = current_stream(recorded_->device);
  recorded_->memory->replay(stream, [&] {
    check_cuda(cudaGraphLaunch(recorded_->executable, handle(stream)), "cudaGraphLaunch", recorded_->device);
  });
}

}  // namespace deltatape::cuda
