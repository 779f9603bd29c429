#include "backends/cuda/graph_memory.h"

#include <algorithm>
#include <cstring>
#include <exception>
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

// Graphs with replays whose notes nobody has looked at yet.
struct Replays {
  std::mutex mutex;
  std::vector<std::weak_ptr<GraphMemory>> pending;
};

Replays& replays() {
  static auto* instance = new Replays;
  return *instance;
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

void GraphMemory::replay(const Stream& stream, const std::function<void()>& launch) {
  check(recording_memory(device_) == nullptr, "Graph::replay", "{} is recording a graph, expected replays after it",
        device_);
  {
    const std::scoped_lock lock(mutex_);  // nobody reads the notes between the launch and its mark
    launch();
    if (watches_.empty()) {
      return;
    }
    if (!last_replay_) {
      last_replay_.emplace(device_);
    }
    last_replay_->record(stream);
  }
  Replays& all = replays();
  const std::scoped_lock lock(all.mutex);
  const auto is_gone_or_this = [this](const std::weak_ptr<GraphMemory>& other) {
    const std::shared_ptr<GraphMemory> memory = other.lock();
    return memory == nullptr || memory.get() == this;
  };
  all.pending.erase(std::remove_if(all.pending.begin(), all.pending.end(), is_gone_or_this), all.pending.end());
  all.pending.push_back(weak_from_this());
}

bool GraphMemory::check_watched() {
  const std::scoped_lock lock(mutex_);
  if (last_replay_ && !last_replay_->passed()) {
    return false;
  }
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
  return true;
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

void check_replays(Device device) {
  Replays& all = replays();
  std::exception_ptr first;
  {
    const std::scoped_lock lock(all.mutex);
    const auto is_over = [&](const std::weak_ptr<GraphMemory>& other) {
      const std::shared_ptr<GraphMemory> memory = other.lock();
      if (memory != nullptr && !(memory->device() == device)) {
        return false;
      }
      try {
        return memory == nullptr || memory->check_watched();
      } catch (...) {  // the others' notes are not to be found later, when their indices may be good
        first = first ? first : std::current_exception();
        return true;
      }
    };
    all.pending.erase(std::remove_if(all.pending.begin(), all.pending.end(), is_over), all.pending.end());
  }
  if (first) {
    std::rethrow_exception(first);
  }
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
