#include "backends/cuda/staging.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>

#include "backends/cuda/graph_memory.h"
#include "backends/cuda/runtime/device.h"
#include "backends/cuda/runtime/memory.h"
#include "backends/cuda/runtime/stream.h"
#include "core/device_memory.h"

namespace deltatape {
namespace cuda {
namespace {

struct Piece {
  explicit Piece(Device device) : memory(kStagingPiece), copied(device) {}
  PinnedMemory memory;
  Event copied;  // the copy that it was last used for
};

/// Pieces that are used in turn.
class Staging {
 public:
  explicit Staging(Device device) : device_(device) {}
  /// The piece of this turn, after the copy that it was last used for.
  Piece& of_turn(size_t turn) {
    std::unique_ptr<Piece>& piece = pieces_.at(turn % kStagingPieces);
    if (piece == nullptr) {
      const DeviceGuard guard(device_);  // pinned memory makes a context on the device that is current
      piece = std::make_unique<Piece>(device_);
    }
    piece->copied.synchronize();
    return *piece;
  }

  std::mutex mutex;
  size_t next = 0;  // turn

 private:
  Device device_;
  std::array<std::unique_ptr<Piece>, kStagingPieces> pieces_;
};

/// Both directions of a device: whoever reads waits for the device's work, and does not keep copies to it waiting.
struct Directions {
  explicit Directions(Device device) : up(device), down(device) {}
  Staging up;
  Staging down;
};

// Never destroyed, as streams are: the driver may be gone before static objects are.
Directions& directions(Device device) {
  static auto& mutex = *new std::mutex;
  static auto& known = *new std::map<int, Directions>;
  const std::scoped_lock lock(mutex);
  return known.try_emplace(device.index(), device).first->second;
}

}  // namespace

void copy_from_host(void* to, const void* from, size_t bytes, Device device) {
  const Stream stream = current_stream(device);
  if (bytes <= kStagedFrom || is_recording(device)) {
    return copy_bytes(to, device, from, Device::cpu(), bytes, stream);
  }
  Staging& staging = directions(device).up;
  for (size_t done = 0; done < bytes; done += kStagingPiece) {
    const size_t count = std::min(kStagingPiece, bytes - done);
    const std::scoped_lock lock(staging.mutex);  // piece by piece: a long copy lets others in between
    Piece& piece = staging.of_turn(staging.next++);
    std::memcpy(piece.memory.data(), static_cast<const char*>(from) + done, count);
    copy_bytes(static_cast<char*>(to) + done, device, piece.memory.data(), Device::cpu(), count, stream);
    piece.copied.record(stream);
  }
}

}  // namespace cuda

void copy_to_host(void* to, const void* from, size_t bytes, Device device) {
  using namespace cuda;
  const Stream stream = current_stream(device);
  if (bytes <= kStagedFrom || is_recording(device)) {
    copy_bytes(to, Device::cpu(), from, device, bytes, stream);
    return synchronize(stream);
  }
  Staging& staging = directions(device).down;
  const std::scoped_lock lock(staging.mutex);  // every piece is read before another copy takes it
  const size_t first = staging.next;
  const size_t turns = (bytes + kStagingPiece - 1) / kStagingPiece;
  const auto count = [&](size_t turn) { return std::min(kStagingPiece, bytes - turn * kStagingPiece); };
  const auto begin = [&](size_t turn) {
    Piece& piece = staging.of_turn(first + turn);
    copy_bytes(piece.memory.data(), Device::cpu(), static_cast<const char*>(from) + turn * kStagingPiece, device,
               count(turn), stream);
    piece.copied.record(stream);
  };
  staging.next += turns;
  for (size_t turn = 0; turn < std::min(turns, kStagingPieces); ++turn) {
    begin(turn);
  }
  for (size_t turn = 0; turn < turns; ++turn) {
    const Piece& piece = staging.of_turn(first + turn);
    std::memcpy(static_cast<char*>(to) + turn * kStagingPiece, piece.memory.data(), count(turn));
    if (turn + kStagingPieces < turns) {
      begin(turn + kStagingPieces);
    }
  }
  check_replays(device);  // what was waited for here came after them
}

}  // namespace deltatape
