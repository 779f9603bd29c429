// Memory of recorded work: every replay goes to the same addresses, so blocks that were taken while recording belong to
// the graph and serve nothing else until it is gone.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "backends/cuda/runtime/memory.h"
#include "backends/cuda/runtime/stream.h"
#include "core/device.h"

namespace deltatape::cuda {

struct IndexOutside;

/// Blocks of one graph. Within the recording a block that was given back is used again, as the order of the stream
/// allows.
class GraphMemory : public std::enable_shared_from_this<GraphMemory> {
 public:
  explicit GraphMemory(Device device) : device_(device) {}
  ~GraphMemory();
  GraphMemory(const GraphMemory&) = delete;
  GraphMemory& operator=(const GraphMemory&) = delete;

  [[nodiscard]] Device device() const { return device_; }
  /// A block of at least `bytes`.
  void* take(size_t bytes);
  /// Gives back a block from take.
  void put(void* block);
  /// Host memory with these bytes, for as long as the graph lives: what a recorded copy from the host reads.
  const void* keep(const void* bytes, size_t count);
  /// Where replays note the first of an argument's indices that is not in [0, size): memory of the host that the device
  /// writes to.
  IndexOutside* watch(std::string_view function, std::string_view argument, int64_t size);
  /// Does `launch`, which puts the recorded work on the stream, and marks its end there. Throws Error while this thread
  /// records on the device.
  void replay(const Stream& stream, const std::function<void()>& launch);
  /// Throws Error for what replays have noted, once. False, and nothing is looked at, when one of them is not over:
  /// replays of a graph follow one another on whatever streams, so the last one's mark tells.
  bool check_watched();
  /// Runs when the recording is over.
  void afterwards(std::function<void()> work) { afterwards_.push_back(std::move(work)); }
  /// The recording is over, or has failed.
  void finish();

 private:
  struct Block {
    void* data;
    size_t bytes;
    bool used;
  };
  struct Watch {
    std::string function;
    std::string argument;
    int64_t size;
    std::unique_ptr<PinnedMemory> found;
  };
  Device device_;
  std::mutex mutex_;
  std::vector<Block> blocks_;
  std::vector<Watch> watches_;
  std::optional<Event> last_replay_;  // of a graph that watches
  std::vector<std::unique_ptr<PinnedMemory>> kept_;
  std::vector<std::function<void()>> afterwards_;
};

/// That of the graph which this thread is recording on `device`; nullptr otherwise.
GraphMemory* recording_memory(Device device);
/// Throws Error while this thread records, on whatever device.
void check_not_recording_another();
/// While it lives, this thread records into `memory`, which is told the end of it. There may be no other.
class RecordingGuard {
 public:
  explicit RecordingGuard(std::shared_ptr<GraphMemory> memory);
  ~RecordingGuard();
  RecordingGuard(const RecordingGuard&) = delete;
  RecordingGuard& operator=(const RecordingGuard&) = delete;

 private:
  std::shared_ptr<GraphMemory> memory_;
};

/// Gives a block back to the graph memory it is from; false when it is from none.
bool give_back_to_graph(void* block);
/// While this thread records on `device`, frees memory that is no graph's (`data`, in `block`) once the recording is
/// over: it is not the graph's to free. False when nothing is to be deferred.
bool free_after_recording(void* block, void* data, size_t bytes, Device device);

/// For those who have waited for work of a device, of whatever stream: looks at the notes of all graphs whose replays
/// there are over, and throws Error for the first that found something. What others found goes with it.
void check_replays(Device device);

/// Throws Error while this thread records on `device`; `what` was about to wait for it.
void check_not_recording(const char* what, Device device);
/// The same for random numbers, of which a replay would draw those of the recording.
void check_may_draw(const char* what, Device device);

/// Blocks from the system, not in any stream's order. Defined by the runtime and by the host twin. take_system_block
/// throws Error as allocate_on_device does.
void* take_system_block(size_t bytes, Device device);
void put_system_block(void* block, size_t bytes, Device device) noexcept;

}  // namespace deltatape::cuda
