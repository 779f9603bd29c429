// Device memory of the twin: fresh blocks are NaN and stand between guard zones, which are looked at when a block is
// freed.
#include "backends/cuda/runtime/memory.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <vector>

#include "backends/cuda/graph_memory.h"
#include "backends/cuda/host/arena.h"
#include "backends/cuda/host/schedule.h"
#include "backends/cuda/host/submit.h"
#include "backends/cuda/runtime/place.h"
#include "core/device_memory.h"
#include "core/error.h"

namespace deltatape {
namespace cuda {
namespace {

constexpr size_t kGuard = 256;
constexpr unsigned char kGuardByte = 0xC5;
constexpr unsigned char kFreshByte = 0xFF;

struct Accounts {
  std::mutex mutex;
  std::array<size_t, host::kDevices> used{};
  size_t limit = host::kMemory;
  std::map<const char*, size_t> pinned;
};

Accounts& accounts() {
  static auto* instance = new Accounts;  // tensors with static storage duration are freed last
  return *instance;
}

bool is_pinned(const void* data) {
  Accounts& all = accounts();
  const std::scoped_lock lock(all.mutex);
  auto next = all.pinned.upper_bound(static_cast<const char*>(data));
  if (next == all.pinned.begin()) {
    return false;
  }
  --next;
  return static_cast<const char*>(data) < next->first + next->second;
}

bool all_guard_bytes(const unsigned char* bytes) {
  return std::all_of(bytes, bytes + kGuard, [](unsigned char byte) { return byte == kGuardByte; });
}

}  // namespace

namespace host {

MemoryLimit::MemoryLimit(size_t bytes) : previous_(accounts().limit) { accounts().limit = bytes; }
MemoryLimit::~MemoryLimit() { accounts().limit = previous_; }

}  // namespace host

void copy_bytes(void* to, Device to_device, const void* from, Device from_device, size_t bytes, const Stream& stream) {
  if (bytes == 0) {
    return;
  }
  const auto where = Place::here();
  if (GraphMemory* memory = recording_memory(stream.device())) {
    check(!to_device.is_cpu(), "copy", "{} is recording a graph, and nothing can be waited for or read back",
          stream.device());
    from = from_device.is_cpu() ? memory->keep(from, bytes) : from;
  }
  if (from_device.is_cpu() && !is_pinned(from)) {
    const auto* first = static_cast<const unsigned char*>(from);
    host::submit(stream, where, [to, staged = std::vector<unsigned char>(first, first + bytes)] {
      std::memcpy(to, staged.data(), staged.size());
    });
    return;
  }
  host::submit(stream, where, [to, from, bytes] { std::memcpy(to, from, bytes); });
  if (to_device.is_cpu() && !is_pinned(to)) {
    host::finish_all();
  }
}

void fill_bytes(void* to, unsigned char value, size_t bytes, const Stream& stream) {
  if (bytes > 0) {
    host::submit(stream, Place::here(), [=] { std::memset(to, value, bytes); });
  }
}

PinnedMemory::PinnedMemory(size_t bytes) : bytes_(bytes) {
  if (bytes > 0) {
    data_ = std::malloc(bytes);
    check(data_ != nullptr, "PinnedMemory", "out of memory: {} bytes were asked for", bytes);
    Accounts& all = accounts();
    const std::scoped_lock lock(all.mutex);
    all.pinned[static_cast<const char*>(data_)] = bytes;
  }
}

PinnedMemory::~PinnedMemory() {
  if (data_ != nullptr) {
    Accounts& all = accounts();
    const std::scoped_lock lock(all.mutex);
    all.pinned.erase(static_cast<const char*>(data_));
    std::free(data_);
  }
}

DeviceMemory device_memory(Device device) {
  Accounts& all = accounts();
  const std::scoped_lock lock(all.mutex);
  const size_t used = all.used.at(static_cast<size_t>(device.index()));
  return {all.limit, all.limit - std::min(used, all.limit), used, used};
}

void release_cached_device_memory(Device /*device*/) {}

void* take_system_block(size_t bytes, Device device) {
  Accounts& all = accounts();
  const std::scoped_lock lock(all.mutex);
  size_t& used = all.used.at(static_cast<size_t>(device.index()));
  void* block = bytes <= all.limit && used <= all.limit - bytes ? host::take_block(bytes + 2 * kGuard) : nullptr;
  check(block != nullptr, "Storage::allocate",
        "out of memory on {}: {} bytes were asked for, {} are in use by tensors, {} of {} are free", device, bytes,
        used, all.limit - std::min(used, all.limit), all.limit);
  used += bytes;
  return block;
}

void put_system_block(void* block, size_t bytes, Device device) noexcept {
  host::put_block(block, bytes + 2 * kGuard);
  Accounts& all = accounts();
  const std::scoped_lock lock(all.mutex);
  all.used.at(static_cast<size_t>(device.index())) -= bytes;
}

}  // namespace cuda

void* allocate_on_device(size_t bytes, Device device) {
  using namespace cuda;
  if (bytes == 0) {
    return nullptr;
  }
  GraphMemory* memory = recording_memory(device);
  void* block = memory != nullptr ? memory->take(bytes) : take_system_block(bytes, device);
  auto* data = static_cast<unsigned char*>(block) + kGuard;
  host::submit(current_stream(device), Place::here(), [data, bytes] {
    std::memset(data - kGuard, kGuardByte, kGuard);
    std::memset(data, kFreshByte, bytes);
    std::memset(data + bytes, kGuardByte, kGuard);
  });
  return data;
}

void free_on_device(void* data, size_t bytes, Device device) noexcept {
  using namespace cuda;
  if (data == nullptr) {
    return;
  }
  auto* first = static_cast<unsigned char*>(data);
  void* block = first - kGuard;
  try {
    if (free_after_recording(block, data, bytes, device)) {
      return;
    }
    host::submit(current_stream(device), Place::here(), [first, bytes] {
      if (!all_guard_bytes(first - kGuard) || !all_guard_bytes(first + bytes)) {
        std::fprintf(stderr, "deltatape: memory outside a CUDA tensor's storage of %zu bytes was written to\n", bytes);
        std::abort();
      }
      std::memset(first, kFreshByte, bytes);  // whoever still reads it finds NaN, while its pages are kept
      host::give_back_pages(first - kGuard, bytes + 2 * kGuard);
    });
  } catch (const std::exception& error) {
    std::fprintf(stderr, "deltatape: memory on a device could not be freed: %s\n", error.what());
  }
  if (!give_back_to_graph(block)) {
    put_system_block(block, bytes, device);
  }
}

}  // namespace deltatape
