// The multiprocessor of the host twin: one block at a time, a fiber per warp, in an order that tests choose.
#pragma once

#include <algorithm>
#include <cstdint>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "backends/cuda/kda/tile/host/clock.h"
#include "backends/cuda/kda/tile/host/fiber.h"
#include "backends/cuda/kda/tile/host/memory.h"
#include "backends/cuda/kda/tile/host/shadow.h"
#include "backends/cuda/kda/tile/host/warpgroup_work.h"
#include "backends/cuda/runtime/place.h"
#include "core/error.h"

namespace deltatape::cuda::tile::host {

/// Which of the warps that can go on does.
enum class Order : uint8_t { round_robin, reverse, random };

/// How kernels run.
struct Settings {
  Order order = Order::round_robin;
  uint32_t seed = 0;         // of Order::random
  Memory* memory = nullptr;  // all that kernels may touch; nullptr: anything
};

/// While one lives, kernels of this thread run as it says; the innermost counts.
struct Run : Settings {
  explicit Run(const Settings& settings) : Settings(settings), outer_(current()) { current() = this; }
  explicit Run(Order o = Order::round_robin, uint32_t s = 0, Memory* m = nullptr)
      : Run(Settings{.order = o, .seed = s, .memory = m}) {}
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;
  ~Run() { current() = outer_; }

  static Run*& current() {
    static thread_local Run* run = nullptr;  // as threadIdx is: known everywhere, passed nowhere
    return run;
  }

 private:
  Run* outer_;
};

/// A group of asynchronous copies of one lane group: done when its warp waits for it.
struct PendingCopy {
  int lane = 0;
  int offset = 0;  // in shared memory
  std::vector<std::byte> data;
  uint32_t group = 0;
};

/// Slots that a producer fills and consumers empty, in turn.
struct PipeState {
  enum class Slot : uint8_t { empty, filling, full };
  struct Stage {
    Slot slot = Slot::empty;
    int64_t expected_bytes = 0;
    int64_t bulk_bytes = 0;
    std::vector<PendingCopy> copies;
    std::vector<std::pair<int, int>> places;  // where bulk copies went: byte and count
    Clock producer;                           // when it was handed over
    Clock consumers;                          // when it was given back
    std::vector<int> holders;
    int releases = 0;
    int producer_warp = 0;
    int turn = 1;  // changes with every filling; the first is 0
  };
  int consumers = 0;
  std::vector<Stage> stages;
};

class Machine {
 public:
  struct Warp {
    std::unique_ptr<Fiber> fiber;
    std::function<bool()> ready;  // empty: can go on
    std::string waits_for;
    Clock clock;
    uint32_t turn = 1;
    uint32_t copy_group = 0;
    std::vector<PendingCopy> copies;
    WarpgroupWork products;
    std::exception_ptr error;
  };

  /// Runs one block of `warps` warps; `body(w)` is what warp w does. Throws what a warp throws, and Error when no warp
  /// can go on, when copies are left unfinished or when memory is misused.
  void run_block(int block, int warps, int shared_bytes, uint32_t launch, const std::function<void(int)>& body) {
    block_ = block;
    launch_ = launch;
    cancelled_ = false;
    shared.reset(shared_bytes, warps);
    barriers_.clear();
    pipes.clear();
    warpgroup_steps_.clear();
    warps_.clear();
    for (int w = 0; w < warps; ++w) {
      warps_.push_back(std::make_unique<Warp>());
      Warp& warp = *warps_.back();
      warp.clock.age[static_cast<size_t>(w)] = 1;
      warp.fiber = std::make_unique<Fiber>([this, &warp, &body, w] {
        try {
          body(w);
          check_finished(w);
        } catch (const Cancelled&) {
        } catch (...) {
          warp.error = std::current_exception();
        }
      });
    }
    schedule();
  }

  static Machine*& current() {
    static thread_local Machine* machine = nullptr;  // as threadIdx is
    return machine;
  }
  /// The machine that runs the calling code. Throws Error outside of kernels.
  static Machine& get() {
    check(current() != nullptr, "tile", "a kernel's primitive is used outside of a kernel");
    return *current();
  }

  [[nodiscard]] int warp() const { return running_; }
  [[nodiscard]] int warps() const { return static_cast<int>(warps_.size()); }
  [[nodiscard]] Warp& self() { return *warps_[static_cast<size_t>(running_)]; }
  [[nodiscard]] const Clock& clock_of(int w) const { return warps_[static_cast<size_t>(w)]->clock; }
  [[nodiscard]] Actor actor() { return {.warp = running_, .lane = lane_, .turn = self().turn, .clock = &self().clock}; }
  [[nodiscard]] Actor actor(int lane) {
    return {.warp = running_, .lane = lane, .turn = self().turn, .clock = &self().clock};
  }
  [[nodiscard]] GlobalActor global_actor() {
    return {.launch = launch_, .block = block_, .warp = running_, .clock = &self().clock};
  }
  /// Which lane acts from now on; kWholeWarp outside of per-lane code.
  void set_lane(int lane) { lane_ = lane; }
  [[nodiscard]] int lane() const { return lane_; }
  /// Throws where a lane of its own does what only a whole warp can.
  void check_whole_warp(std::string_view what) const {
    check(lane_ == kWholeWarp, "tile", "{} is used inside per-lane code of lane {}, expected outside", what, lane_);
  }

  void sync_lanes() {
    check_whole_warp("sync_warp");
    ++self().turn;
  }

  /// All of `count` warps meet at barrier `id`.
  void barrier(int id, int count, cuda::Place where) {
    check_whole_warp("sync");
    Barrier& barrier = barriers_[id];
    check(barrier.arrived == 0 || barrier.count == count, "tile",
          "barrier {} is used for {} and for {} warps at the same time", id, barrier.count, count);
    barrier.count = count;
    ++self().turn;
    barrier.met.join(self().clock);
    grow(self());
    ++barrier.arrived;
    const uint64_t round = barrier.round;
    if (barrier.arrived == count) {
      barrier.done[round] = {barrier.met, count};
      barrier.arrived = 0;
      barrier.met = Clock();
      ++barrier.round;
    }
    wait([&barrier, round] { return barrier.round > round; },
         fmt::format("barrier {} of {} warps ({})", id, count, where.text()));
    self().clock.join(barrier.done[round].met);
    if (--barrier.done[round].readers == 0) {
      barrier.done.erase(round);
    }
  }

  /// Leaves the warp until `ready`. Other warps run in between even where it is ready now.
  void wait(std::function<bool()> ready, std::string what) {
    Warp& warp = self();
    warp.ready = std::move(ready);
    warp.waits_for = std::move(what);
    if (!cancelled_) {
      warp.fiber->leave();
    }
    if (cancelled_) {
      throw Cancelled();
    }
  }

  /// The warp executes an instruction that all four warps of its warpgroup execute together.
  void warpgroup_step(std::string_view name, const WarpgroupStep& step) {
    check_whole_warp(name);
    std::vector<WarpgroupStep>& steps = warpgroup_steps_[running_ / kWarpsOfGroup];
    const size_t at = self().products.issued++;
    if (at == steps.size()) {
      steps.push_back(step);
    }
    check(steps[at] == step, "tile",
          "{}: warp {} executes another product, commit, wait or change of registers than the other warps of its "
          "warpgroup",
          name, running_);
  }

  /// What the warp did so far is told to somebody: later actions are apart from it.
  void grow(Warp& warp) { ++warp.clock.age[static_cast<size_t>(running_)]; }

  Shadow shared;
  std::map<int, PipeState> pipes;  // by place in shared memory

 private:
  struct Cancelled {};
  struct Meeting {
    Clock met;
    int readers = 0;
  };
  struct Barrier {
    int count = 0;
    int arrived = 0;
    uint64_t round = 0;
    Clock met;
    std::map<uint64_t, Meeting> done;
  };

  void check_finished(int w) {
    const Warp& warp = *warps_[static_cast<size_t>(w)];
    check(warp.copies.empty(), "tile", "warp {} ends with {} copies that it has not waited for", w, warp.copies.size());
    check(warp.products.begun.empty(), "tile", "warp {} ends with {} products that it has not waited for", w,
          warp.products.begun.size());
  }

  void check_warpgroups() const {
    for (int w = 0; w < static_cast<int>(warps_.size()); ++w) {
      const auto found = warpgroup_steps_.find(w / kWarpsOfGroup);
      const size_t all = found == warpgroup_steps_.end() ? 0 : found->second.size();
      const size_t own = warps_[static_cast<size_t>(w)]->products.issued;
      check(own == all, "tile", "warp {} ends after {} steps of its warpgroup, and others made {}", w, own, all);
    }
  }

  bool can_run(Warp& warp) {
    if (warp.fiber->ended()) {
      return false;
    }
    return !warp.ready || warp.ready();
  }

  void resume(int w) {
    Warp& warp = *warps_[static_cast<size_t>(w)];
    running_ = w;
    lane_ = kWholeWarp;
    warp.ready = nullptr;
    Machine* const outer = current();
    current() = this;
    warp.fiber->resume();
    current() = outer;
  }

  void schedule() {
    const Run* const run = Run::current();
    const Order order = run == nullptr ? Order::round_robin : run->order;
    std::minstd_rand random(run == nullptr ? 1 : run->seed + 1);
    const int count = warps();
    int last = -1;
    for (;;) {
      std::vector<int> candidates;
      for (int i = 1; i <= count; ++i) {
        const int w = order == Order::reverse ? count - i : (last + i) % count;
        if (can_run(*warps_[static_cast<size_t>(w)])) {
          candidates.push_back(w);
          if (order != Order::random) {
            break;
          }
        }
      }
      if (candidates.empty()) {
        break;
      }
      last = candidates[order == Order::random ? random() % candidates.size() : 0];
      resume(last);
      if (warps_[static_cast<size_t>(last)]->error) {
        const std::exception_ptr error = warps_[static_cast<size_t>(last)]->error;
        cancel();
        std::rethrow_exception(error);
      }
    }
    std::string waiting;
    for (int w = 0; w < count; ++w) {
      const Warp& warp = *warps_[static_cast<size_t>(w)];
      if (!warp.fiber->ended()) {
        waiting += fmt::format("{}warp {} waits for {}", waiting.empty() ? "" : ", ", w, warp.waits_for);
      }
    }
    if (!waiting.empty()) {
      cancel();
      fail("tile", "block {} is deadlocked: {}", block_, waiting);
    }
    check_pipes();
    check_warpgroups();
  }

  void check_pipes() const {
    for (const auto& [offset, pipe] : pipes) {
      for (const PipeState::Stage& stage : pipe.stages) {
        check(stage.slot == PipeState::Slot::empty, "tile",
              "block {} ends while a slot of the pipe at byte {} is not given back", block_, offset);
      }
    }
  }

  /// Ends all warps, so that what lives on their stacks is destroyed.
  void cancel() {
    cancelled_ = true;
    for (int w = 0; w < warps(); ++w) {
      while (!warps_[static_cast<size_t>(w)]->fiber->ended()) {
        resume(w);
      }
    }
  }

  int block_ = 0;
  uint32_t launch_ = 0;
  int running_ = 0;
  int lane_ = kWholeWarp;
  bool cancelled_ = false;
  std::vector<std::unique_ptr<Warp>> warps_;
  std::map<int, Barrier> barriers_;
  std::map<int, std::vector<WarpgroupStep>> warpgroup_steps_;
};

/// The views' way to global memory: nothing is checked outside of kernels or without a Run that has a Memory.
inline void check_global(Buffer* buffer, const void* at, size_t bytes, bool write) {
  Machine* const machine = Machine::current();
  const Run* const run = Run::current();
  if (machine == nullptr || run == nullptr || run->memory == nullptr) {
    return;
  }
  check(buffer != nullptr, "tile", "global memory is used that no buffer of the test holds");
  if (write) {
    buffer->check_write(machine->global_actor(), at, bytes);
  } else {
    buffer->check_read(machine->global_actor(), at, bytes);
  }
}

inline Buffer* find_buffer(const void* at) {
  const Run* const run = Run::current();
  return run == nullptr || run->memory == nullptr ? nullptr : run->memory->find(at);
}

}  // namespace deltatape::cuda::tile::host
