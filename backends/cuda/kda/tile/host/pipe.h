// The host twin of device/pipe.h: slots with a state of their own. Data arrive when the first consumer has waited.
#pragma once

#include <algorithm>
#include <cstring>
#include <utility>

#include "backends/cuda/kda/tile/host/copy.h"
#include "backends/cuda/kda/tile/host/machine.h"
#include "backends/cuda/kda/tile/target.h"

namespace deltatape::cuda::tile {

class PipeBarriers {
 public:
  PipeBarriers(int offset, int slots) : offset_(offset), slots_(slots) {
    check(offset % 16 == 0, "tile::Pipe", "offset is {}, expected a multiple of 16", offset);
  }

  void start(bool mine, int consumer_warps) {
    consumer_warps_ = consumer_warps;
    if (!mine) {
      return;
    }
    host::Machine& machine = machine_of("Pipe");
    check(consumer_warps >= 1 && consumer_warps < machine.warps(), "tile::Pipe",
          "consumer_warps is {}, expected 1 to {}", consumer_warps, machine.warps() - 1);
    const std::vector<std::byte> zeros(static_cast<size_t>(16 * slots_));
    machine.shared.write(machine.actor(), offset_, 16 * slots_, 8, zeros.data());
    host::PipeState& pipe = machine.pipes[offset_];
    pipe = host::PipeState();
    pipe.consumers = consumer_warps;
    pipe.stages.resize(static_cast<size_t>(slots_));
  }

  void acquire(int slot, int /*turn*/, int bytes) {
    host::PipeState::Stage& stage = stage_of(slot, "acquire");
    host::Machine& machine = host::Machine::get();
    check(stage.slot != host::PipeState::Slot::filling, "tile::Pipe", "warp {} acquires slot {} twice", machine.warp(),
          slot);
    machine.wait([&stage] { return stage.slot == host::PipeState::Slot::empty; },
                 fmt::format("slot {} of the pipe at byte {} to be free", slot, offset_));
    machine.self().clock.join(stage.consumers);
    ++machine.self().turn;  // the lanes wait together
    stage.slot = host::PipeState::Slot::filling;
    stage.expected_bytes = bytes;
    stage.bulk_bytes = 0;
    stage.places.clear();
    stage.producer_warp = machine.warp();
  }

  template <class T, class U>
  void load_bulk(int slot, SharedPointer<T> to, GlobalPointer<U> from, int bytes) {
    host::PipeState::Stage& stage = filling(slot, "load_raw");
    host::Machine& machine = host::Machine::get();
    check(to.byte() % 16 == 0 && reinterpret_cast<uintptr_t>(from.data()) % 16 == 0 && bytes % 16 == 0, "tile::Pipe",
          "load_raw: addresses and sizes must be multiples of 16 bytes");
    from.check_copied(bytes);
    host::PendingCopy copy{.lane = host::kWholeWarp,
                           .offset = to.byte(),
                           .data = std::vector<std::byte>(static_cast<size_t>(bytes)),
                           .group = 0};
    std::memcpy(copy.data.data(), from.data(), copy.data.size());
    machine.shared.begin_copy(machine.actor(), copy.offset, bytes);
    stage.copies.push_back(std::move(copy));
    stage.bulk_bytes += bytes;
  }

  template <class T, class U>
  void load_16_bytes(int slot, SharedPointer<T> to, GlobalPointer<U> from, int bytes) {
    state(slot).copies.push_back(host::begin_copy_16_bytes(to, from, bytes));
  }

  void commit(int slot) {
    host::PipeState::Stage& stage = filling(slot, "commit");
    check(stage.bulk_bytes == stage.expected_bytes, "tile::Pipe",
          "slot {} is committed with {} bytes of load_raw, expected the {} that acquire was told", slot,
          stage.bulk_bytes, stage.expected_bytes);
    host::Machine& machine = host::Machine::get();
    stage.producer = machine.self().clock;
    machine.grow(machine.self());
    stage.slot = host::PipeState::Slot::full;
    stage.turn ^= 1;
    stage.holders.clear();
    stage.releases = 0;
    stage.consumers = host::Clock();
  }

  void wait(int slot, int turn) {
    host::PipeState::Stage& stage = stage_of(slot, "wait");
    host::Machine& machine = host::Machine::get();
    const int me = machine.warp();
    check(std::find(stage.holders.begin(), stage.holders.end(), me) == stage.holders.end(), "tile::Pipe",
          "warp {} waits for slot {}, which it holds", me, slot);
    machine.wait([&stage, turn] { return stage.slot == host::PipeState::Slot::full && stage.turn == turn; },
                 fmt::format("slot {} of the pipe at byte {} to be full", slot, offset_));
    check(static_cast<int>(stage.holders.size()) < consumers(), "tile::Pipe",
          "warp {} waits for slot {} beside {} others, expected {} consumers", me, slot, stage.holders.size(),
          consumers());
    for (const host::PendingCopy& copy : stage.copies) {
      const host::Actor producer{.warp = stage.producer_warp, .lane = copy.lane, .turn = 0, .clock = &stage.producer};
      const auto bytes = static_cast<int>(copy.data.size());
      machine.shared.end_copy(producer, copy.offset, bytes, copy.data.data());
      if (copy.lane == host::kWholeWarp) {
        stage.places.emplace_back(copy.offset, bytes);
      }
    }
    stage.copies.clear();
    machine.self().clock.join(stage.producer);
    ++machine.self().turn;
    stage.holders.push_back(me);
  }

  void release(int slot, bool wrote) {
    host::PipeState::Stage& stage = stage_of(slot, "release");
    host::Machine& machine = host::Machine::get();
    const auto held = std::find(stage.holders.begin(), stage.holders.end(), machine.warp());
    check(stage.slot == host::PipeState::Slot::full && held != stage.holders.end(), "tile::Pipe",
          "warp {} releases slot {}, which it does not hold", machine.warp(), slot);
    for (const auto& [offset, bytes] : stage.places) {
      check(wrote || !machine.shared.stored_by(machine.warp(), offset, bytes), "tile::Pipe",
            "warp {} releases slot {} after it stored there, expected release(true)", machine.warp(), slot);
    }
    *held = -1;  // it may not hold it again before it is filled again
    ++machine.self().turn;
    stage.consumers.join(machine.self().clock);
    machine.grow(machine.self());
    ++stage.releases;
    if (stage.releases == consumers()) {
      stage.slot = host::PipeState::Slot::empty;
    }
  }

 private:
  host::Machine& machine_of(std::string_view what) const {
    host::Machine& machine = host::Machine::get();
    machine.check_whole_warp(what);
    return machine;
  }
  host::PipeState::Stage& state(int slot) const {
    const auto found = host::Machine::get().pipes.find(offset_);
    check(found != host::Machine::get().pipes.end(), "tile::Pipe",
          "the pipe at byte {} is used before warp 0 has made it (a sync is missing)", offset_);
    return found->second.stages[static_cast<size_t>(slot)];
  }
  /// The slot's state, after the check that the pipe's beginning is known to the warp.
  host::PipeState::Stage& stage_of(int slot, std::string_view what) const {
    host::Machine& machine = machine_of(what);
    host::PipeState::Stage& stage = state(slot);
    std::array<std::byte, 16> barriers{};
    machine.shared.read(machine.actor(), offset_ + 16 * slot, 16, 8, barriers.data());
    return stage;
  }
  host::PipeState::Stage& filling(int slot, std::string_view what) const {
    machine_of(what);
    host::PipeState::Stage& stage = state(slot);
    check(stage.slot == host::PipeState::Slot::filling && stage.producer_warp == host::Machine::get().warp(),
          "tile::Pipe", "{}: warp {} has not acquired slot {}", what, host::Machine::get().warp(), slot);
    return stage;
  }
  int consumers() const { return consumer_warps_; }

  int offset_;
  int slots_;
  int consumer_warps_ = 1;
};

}  // namespace deltatape::cuda::tile
