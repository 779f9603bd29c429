#include "backends/cuda/graph_memory.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <new>

#include "backends/cuda/index_check.h"
#include "core/device_memory.h"
#include "core/error.h"

namespace deltatape {
namespace cuda {
namespace {

// Blocks that are in use by tensors, and whose they are: a tensor may outlive its graph.
struct Owners {
  std::mutex mutex;
  std::map<void*, std::shared_ptr<GraphMemory>> of;
};

Owners& owners() {
  static auto* instance = new Owners;  // tensors with static storage duration are freed last
  return *instance;
}

// Replays that nobody has waited for yet.
struct Replays {
  struct Replay {
    std::weak_ptr<GraphMemory> memory;
    Stream stream;
  };
  std::mutex mutex;
  std::vector<Replay> pending;
};

Replays& replays() {
  static auto* instance = new Replays;
  return *instance;
}

// Those for which `done` holds are over.
template <class Done>
void check_replays_if(const Done& done) {
  std::vector<std::shared_ptr<GraphMemory>> over;
  Replays& all = replays();
  {
    const std::scoped_lock lock(all.mutex);
    const auto last = std::stable_partition(all.pending.begin(), all.pending.end(),
                                            [&](const Replays::Replay& replay) { return !done(replay.stream); });
    for (auto replay = last; replay != all.pending.end(); ++replay) {
      over.push_back(replay->memory.lock());
    }
    all.pending.erase(last, all.pending.end());
  }
  for (const std::shared_ptr<GraphMemory>& memory : over) {
    if (memory != nullptr) {
      memory->check_watched();
    }
  }
}

// A plain pointer, for the same reason; the RecordingGuard owns.
GraphMemory*& recording() {
  thread_local GraphMemory* memory = nullptr;
  return memory;
}

}  // namespace

GraphMemory::~GraphMemory() {
  for (const Block& block : blocks_) {
    put_system_block(block.data, block.bytes, device_);
  }
}

void* GraphMemory::take(size_t bytes) {
  const std::scoped_lock lock(mutex_);
  // The smallest that fits and is not much too large.
  auto best = blocks_.end();
  for (auto block = blocks_.begin(); block != blocks_.end(); ++block) {
    if (!block->used && block->bytes >= bytes && block->bytes / 2 <= bytes &&
        (best == blocks_.end() || block->bytes < best->bytes)) {
      best = block;
    }
  }
  if (best == blocks_.end()) {
    constexpr size_t kUnit = 512;
    const size_t whole = (bytes + kUnit - 1) / kUnit * kUnit;
    best = blocks_.insert(blocks_.end(), {take_system_block(whole, device_), whole, false});
  }
  best->used = true;
  Owners& all = owners();
  const std::scoped_lock owners_lock(all.mutex);
  all.of.emplace(best->data, shared_from_this());
  return best->data;
}

void GraphMemory::put(void* block) {
  const std::scoped_lock lock(mutex_);
  const auto found =
      std::find_if(blocks_.begin(), blocks_.end(), [&](const Block& other) { return other.data == block; });
  if (found != blocks_.end()) {
    found->used = false;
  }
}

const void* GraphMemory::keep(const void* bytes, size_t count) {
  const std::scoped_lock lock(mutex_);
  kept_.push_back(std::make_unique<PinnedMemory>(count));
  std::memcpy(kept_.back()->data(), bytes, count);
  return kept_.back()->data();
}

IndexOutside* GraphMemory::watch(std::string_view function, std::string_view argument, int64_t size) {
  const std::scoped_lock lock(mutex_);
  watches_.push_back(
      {std::string(function), std::string(argument), size, std::make_unique<PinnedMemory>(sizeof(IndexOutside))});
  return new (watches_.back().found->data()) IndexOutside;
}

void GraphMemory::check_watched() {
  const std::scoped_lock lock(mutex_);
  const Watch* first = nullptr;
  IndexOutside found;
  for (const Watch& watch : watches_) {  // all are reset: the next replay starts afresh
    const IndexOutside noted = std::exchange(*static_cast<IndexOutside*>(watch.found->data()), IndexOutside());
    if (first == nullptr && noted.position != IndexOutside::kNone) {
      first = &watch;
      found = noted;
    }
  }
  if (first != nullptr) {
    check_none_outside(first->function, first->argument, found, first->size);
  }
}

void GraphMemory::finish() {
  for (const std::function<void()>& work : afterwards_) {
    work();
  }
  afterwards_.clear();
}

GraphMemory* recording_memory(Device device) {
  GraphMemory* memory = recording();
  return memory != nullptr && memory->device() == device ? memory : nullptr;
}

void check_not_recording_another() {
  check(recording() == nullptr, "Graph::record", "this thread is recording another graph, expected one at a time");
}

RecordingGuard::RecordingGuard(std::shared_ptr<GraphMemory> memory) : memory_(std::move(memory)) {
  recording() = memory_.get();
}

RecordingGuard::~RecordingGuard() {
  recording() = nullptr;
  memory_->finish();
}

bool give_back_to_graph(void* block) {
  Owners& all = owners();
  std::shared_ptr<GraphMemory> owner;
  {
    const std::scoped_lock lock(all.mutex);
    const auto found = all.of.find(block);
    if (found == all.of.end()) {
      return false;
    }
    owner = std::move(found->second);
    all.of.erase(found);
  }
  owner->put(block);
  return true;
}

bool free_after_recording(void* block, void* data, size_t bytes, Device device) {
  GraphMemory* memory = recording_memory(device);
  if (memory == nullptr) {
    return false;
  }
  Owners& all = owners();
  {
    const std::scoped_lock lock(all.mutex);
    if (all.of.count(block) > 0) {
      return false;
    }
  }
  memory->afterwards([data, bytes, device] { free_on_device(data, bytes, device); });
  return true;
}

void replayed(const std::shared_ptr<GraphMemory>& memory, const Stream& stream) {
  Replays& all = replays();
  const std::scoped_lock lock(all.mutex);
  const bool known = std::any_of(all.pending.begin(), all.pending.end(), [&](const Replays::Replay& replay) {
    return replay.stream == stream && replay.memory.lock() == memory;
  });
  if (!known) {
    all.pending.push_back({memory, stream});
  }
}

void check_replays(const Stream& stream) {
  check_replays_if([&](const Stream& of) { return of == stream; });
}

void check_replays(Device device) {
  check_replays_if([&](const Stream& of) { return of.device() == device; });
}

void check_not_recording(const char* what, Device device) {
  check(recording_memory(device) == nullptr, what,
        "{} is recording a graph, and nothing can be waited for or read back", device);
}

void check_may_draw(const char* what, Device device) {
  check(recording_memory(device) == nullptr, what,
        "{} is recording a graph, whose replays would draw the same numbers each time", device);
}

}  // namespace cuda

bool is_recording(Device device) { return !device.is_cpu() && cuda::recording_memory(device) != nullptr; }

}  // namespace deltatape
