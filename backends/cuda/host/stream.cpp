// Streams of the twin. All share one queue, in the order in which work was put on them: one of the orders that a GPU
// may take, and the one that needs no events.
#include "backends/cuda/runtime/stream.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <deque>
#include <mutex>
#include <numeric>

#include "backends/cuda/graph_memory.h"
#include "backends/cuda/host/arena.h"
#include "backends/cuda/host/schedule.h"
#include "backends/cuda/host/submit.h"
#include "backends/cuda/runtime/default_stream.h"
#include "core/error.h"

namespace deltatape {
namespace cuda {
namespace host {
namespace {

struct Queue {
  std::recursive_mutex mutex;
  std::deque<std::function<void()>> waiting;
  std::atomic<int64_t> launches{0};
};

Queue& queue() {
  static auto* instance = new Queue;  // tensors with static storage duration are freed last
  return *instance;
}

Schedule& schedule_of_thread() {
  thread_local Schedule schedule;
  return schedule;
}

Recorder*& recorder_of_thread() {
  thread_local Recorder* recorder = nullptr;
  return recorder;
}

void run(const std::function<void()>& work) {
  const OpenArena open;
  work();
}

}  // namespace

Schedule schedule() { return schedule_of_thread(); }

ScheduleGuard::ScheduleGuard(Schedule schedule) : previous_(schedule_of_thread()) { schedule_of_thread() = schedule; }

ScheduleGuard::~ScheduleGuard() {
  finish_all();
  schedule_of_thread() = previous_;
}

int64_t launches() { return queue().launches; }

Order::Order(int64_t n) : n_(n) {
  const Schedule chosen = schedule();
  if (chosen.blocks == Schedule::Blocks::backward && n > 1) {
    step_ = n - 1;
    first_ = n - 1;
  } else if (chosen.blocks == Schedule::Blocks::shuffled && n > 2) {
    step_ = 2 + static_cast<int64_t>(chosen.seed * 0x9E3779B97F4A7C15U >> 40) % (n - 2);
    while (std::gcd(step_, n) != 1) {
      ++step_;
    }
    first_ = static_cast<int64_t>(chosen.seed % static_cast<uint64_t>(n));
  }
}

void submit(const Stream& /*stream*/, Place /*where*/, std::function<void()> work) {
  if (Recorder* recorder = recorder_of_thread()) {
    recorder->work.push_back(std::move(work));
    return;
  }
  Queue& all = queue();
  const std::scoped_lock lock(all.mutex);
  ++all.launches;
  if (schedule().deferred) {
    all.waiting.push_back(std::move(work));
    return;
  }
  finish_all();
  run(work);
}

void finish_all() {
  finish_until([] { return false; });
}

void finish_until(const std::function<bool()>& reached) {
  Queue& all = queue();
  const std::scoped_lock lock(all.mutex);
  while (!all.waiting.empty() && !reached()) {
    const std::function<void()> work = std::move(all.waiting.front());
    all.waiting.pop_front();
    run(work);
  }
}

Recorder::Recorder() { recorder_of_thread() = this; }
Recorder::~Recorder() { recorder_of_thread() = nullptr; }

unsigned char* SharedMemory::first() const {
  auto* first = storage_.data();
  const size_t off = reinterpret_cast<uintptr_t>(first) % kAlignment;
  return off == 0 ? first : first + (kAlignment - off);
}

unsigned char* SharedMemory::poisoned() const {
  check_end();
  std::fill(first(), first() + bytes_, kFresh);
  return first();
}

void SharedMemory::check_end() const {
  const unsigned char* end = storage_.data() + storage_.size();
  check(std::all_of<const unsigned char*>(first() + bytes_, end, [](unsigned char byte) { return byte == kBehind; }),
        "launch_blocks", "a block wrote behind its {} bytes of shared memory", bytes_);
}

void check_block_launch(int threads, int max_threads, size_t shared_bytes, Place where) {
  const std::string place = where.text();
  check(threads > 0 && threads % 32 == 0 && threads <= max_threads && max_threads <= 1024, "launch_blocks",
        "threads is {} at {}, expected a multiple of 32 up to {}", threads, place, max_threads);
  constexpr size_t kMostShared = size_t{227} << 10;
  check(shared_bytes <= kMostShared, "launch_blocks", "shared_bytes is {} at {}, expected up to {}", shared_bytes,
        place, kMostShared);
}

}  // namespace host

namespace {

int* stamp() { return new int(0); }

}  // namespace

Stream Stream::create(Device device) {
  Stream stream(device, stamp());
  stream.owner_ = std::shared_ptr<void>(stream.handle_, [](void* owned) { delete static_cast<int*>(owned); });
  return stream;
}

Stream default_stream(Device device) {
  static std::array<int, host::kDevices> stamps{};
  return {device, &stamps.at(static_cast<size_t>(device.index()))};
}

namespace {

using Time = std::chrono::steady_clock::time_point;

struct Mark {
  Time time;
  std::atomic<int64_t> recorded{0};
  std::atomic<int64_t> passed{0};
};

Mark& mark_of(const std::shared_ptr<void>& handle) { return *static_cast<Mark*>(handle.get()); }

}  // namespace

Event::Event(Device device) : device_(device), handle_(std::make_shared<Mark>()) {}

void Event::record(const Stream& stream) {
  const int64_t number = ++mark_of(handle_).recorded;
  host::submit(stream, Place::here(), [handle = handle_, number] {
    mark_of(handle).time = std::chrono::steady_clock::now();
    mark_of(handle).passed = number;
  });
}

void Event::wait(const Stream& /*stream*/) const {}

// What is behind the mark stays where it is: who needs it has to wait for it.
void Event::synchronize() const {
  host::finish_until([this] { return passed(); });
}

bool Event::passed() const {
  const Mark& mark = mark_of(handle_);
  return mark.passed >= mark.recorded;
}

double Event::milliseconds_since(const Event& start) const {
  host::finish_all();
  const auto elapsed = mark_of(handle_).time - mark_of(start.handle_).time;
  return std::chrono::duration<double, std::milli>(elapsed).count();
}

void synchronize(const Stream& stream) {
  check_not_recording("synchronize", stream.device());
  host::finish_all();
  check_replays(stream.device());
}

}  // namespace cuda

void synchronize(Device device) {
  if (!device.is_cpu()) {
    cuda::check_not_recording("synchronize", device);
    cuda::host::finish_all();
    cuda::check_replays(device);
  }
}

}  // namespace deltatape
