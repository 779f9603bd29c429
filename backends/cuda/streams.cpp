// Which stream a thread uses.
#include "backends/cuda/runtime/default_stream.h"
#include "backends/cuda/runtime/stream.h"

namespace deltatape::cuda {
namespace {

// The innermost StreamGuard of this thread. A plain pointer: tensors with static storage duration are freed after
// the thread's objects are gone.
StreamGuard*& innermost() {
  thread_local StreamGuard* guard = nullptr;
  return guard;
}

// Work that comes on `second` begins after what is on `first`.
void join(const Stream& first, const Stream& second) {
  Event event(first.device());
  event.record(first);
  event.wait(second);
}

}  // namespace

Stream current_stream(Device device) {
  for (const StreamGuard* guard = innermost(); guard != nullptr; guard = guard->outer_) {
    if (guard->stream_.device() == device) {
      return guard->stream_;
    }
  }
  return default_stream(device);
}

StreamGuard::StreamGuard(Stream stream)
    : stream_(std::move(stream)), previous_(current_stream(stream_.device())), outer_(innermost()) {
  join(previous_, stream_);
  innermost() = this;
}

StreamGuard::~StreamGuard() {
  innermost() = outer_;
  try {
    join(stream_, previous_);
  } catch (const std::exception&) {  // the device has failed: whoever waits for the stream learns it
  }
}

}  // namespace deltatape::cuda
