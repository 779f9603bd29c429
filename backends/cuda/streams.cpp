// Which stream a thread uses.
#include <optional>
#include <vector>

#include "backends/cuda/runtime/default_stream.h"
#include "backends/cuda/runtime/stream.h"

namespace deltatape::cuda {
namespace {

// By device; what a StreamGuard of this thread has put there.
std::optional<Stream>& chosen(Device device) {
  thread_local std::vector<std::optional<Stream>> streams(static_cast<size_t>(cuda_device_count()));
  return streams.at(static_cast<size_t>(device.index()));
}

// Work that comes on `second` begins after what is on `first`.
void join(const Stream& first, const Stream& second) {
  Event event(first.device());
  event.record(first);
  event.wait(second);
}

}  // namespace

Stream current_stream(Device device) {
  const std::optional<Stream>& stream = chosen(device);
  return stream ? *stream : default_stream(device);
}

StreamGuard::StreamGuard(Stream stream)
    : stream_(std::move(stream)),
      previous_(current_stream(stream_.device())),
      had_previous_(chosen(stream_.device()).has_value()) {
  join(previous_, stream_);
  chosen(stream_.device()) = stream_;
}

StreamGuard::~StreamGuard() {
  chosen(stream_.device()) = had_previous_ ? std::optional(previous_) : std::nullopt;
  try {
    join(stream_, previous_);
  } catch (const std::exception&) {  // the device has failed: whoever waits for the stream learns it
  }
}

}  // namespace deltatape::cuda
