// Streams: queues of work that a device does in order. Every device has one, which all threads use unless a StreamGuard
// says otherwise; it does not wait for CUDA's legacy default stream.
#pragma once

#include <memory>
#include <utility>

#include "core/device.h"

namespace deltatape::cuda {

/// A handle: copying it means the same stream.
class Stream {
 public:
  /// Another stream of the device, which ends with its last handle.
  static Stream create(Device device);
  /// A stream that somebody else keeps (`handle`: a cudaStream_t).
  Stream(Device device, void* handle) : device_(device), handle_(handle) {}

  [[nodiscard]] Device device() const { return device_; }
  /// The cudaStream_t.
  [[nodiscard]] void* handle() const { return handle_; }
  friend bool operator==(const Stream& a, const Stream& b) { return a.device_ == b.device_ && a.handle_ == b.handle_; }

 private:
  Device device_;
  void* handle_;
  std::shared_ptr<void> owner_;
};

/// The stream that this thread's work on `device` goes to.
Stream current_stream(Device device);

/// While it lives, this thread's work on the stream's device goes to that stream; guards end in the reverse of the
/// order in which they began. It begins after the work that is on the stream used before, and that stream goes on after
/// it: memory may change hands at both ends without further care.
class StreamGuard {
 public:
  explicit StreamGuard(Stream stream);
  ~StreamGuard();
  StreamGuard(const StreamGuard&) = delete;
  StreamGuard& operator=(const StreamGuard&) = delete;

 private:
  friend Stream current_stream(Device device);

  Stream stream_;
  Stream previous_;
  StreamGuard* outer_;
};

/// A mark on a stream.
class Event {
 public:
  explicit Event(Device device);
  /// Marks the end of the work that is on the stream.
  void record(const Stream& stream);
  /// Makes the stream's further work wait for the mark.
  void wait(const Stream& stream) const;
  /// Makes the host wait for the mark.
  void synchronize() const;
  /// Whether the work before the mark is done; true when there is no mark yet.
  [[nodiscard]] bool passed() const;
  /// From `start`'s mark to this one; both must have been passed.
  [[nodiscard]] double milliseconds_since(const Event& start) const;

 private:
  Device device_;
  std::shared_ptr<void> handle_;
};

/// Makes the host wait until the stream's work is done. Throws Error when something on it failed, and for
/// what replays on the device have found among their indices (backends/cuda/runtime/graph.h).
void synchronize(const Stream& stream);

}  // namespace deltatape::cuda
