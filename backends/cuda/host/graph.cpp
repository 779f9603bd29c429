// Graphs of the twin: lists of work.
#include "backends/cuda/runtime/graph.h"

#include <utility>
#include <vector>

#include "backends/cuda/graph_memory.h"
#include "backends/cuda/host/submit.h"
#include "backends/cuda/runtime/stream.h"

namespace deltatape::cuda {

struct Graph::Recorded {
  explicit Recorded(Device device_of_graph) : device(device_of_graph), memory(std::make_shared<GraphMemory>(device)) {}
  ~Recorded() { host::finish_all(); }
  Recorded(const Recorded&) = delete;
  Recorded& operator=(const Recorded&) = delete;

  Device device;
  std::shared_ptr<GraphMemory> memory;
  std::vector<std::function<void()>> work;
};

Graph Graph::record(Device device, const std::function<void()>& work) {
  check_not_recording_another();
  Graph result;
  result.recorded_ = std::make_shared<Recorded>(device);
  host::finish_all();
  {
    const RecordingGuard guard(result.recorded_->memory);
    host::Recorder recorder;
    work();
    result.recorded_->work = std::move(recorder.work);
  }
  return result;
}

void Graph::replay() const {
  const Stream stream = current_stream(recorded_->device);
  recorded_->memory->replay(stream, [&] {
    host::submit(stream, Place::here(), [recorded = recorded_] {
      for (const std::function<void()>& work : recorded->work) {
        work();
      }
    });
  });
}

}  // namespace deltatape::cuda
