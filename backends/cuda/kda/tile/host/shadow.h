// Shared memory of a block together with who wrote and read every two bytes of it, and when.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "backends/cuda/kda/tile/host/clock.h"
#include "core/error.h"

namespace deltatape::cuda::tile::host {

inline constexpr int kWholeWarp = -1;  // in place of a lane: all of them in one instruction

/// Who acts.
struct Actor {
  int warp = 0;
  int lane = kWholeWarp;
  uint32_t turn = 0;  // counts the warp's own syncs of its lanes
  const Clock* clock = nullptr;
};

class Shadow {
 public:
  /// `bytes` of memory that nobody has written, for `warps` warps. Filled with NaN.
  void reset(int bytes, int warps) {
    warps_ = warps;
    bytes_.assign(static_cast<size_t>(bytes), std::byte{0xff});
    units_.assign(static_cast<size_t>((bytes + 1) / 2), Unit{});
    read_ages_.assign(units_.size() * static_cast<size_t>(warps), 0);
    fenced_ages_.assign(static_cast<size_t>(warps), 0);
  }
  [[nodiscard]] int bytes() const { return static_cast<int>(bytes_.size()); }

  void read(const Actor& who, int offset, int bytes, int element_bytes, void* to) {
    for_units(offset, bytes, [&](size_t at) { check_read(who, at, element_bytes); });
    std::memcpy(to, bytes_.data() + offset, static_cast<size_t>(bytes));
  }
  void write(const Actor& who, int offset, int bytes, int element_bytes, const void* from) {
    for_units(offset, bytes, [&](size_t at) {
      check_write(who, at);
      set_writer(who, at, element_bytes);
    });
    std::memcpy(bytes_.data() + offset, from, static_cast<size_t>(bytes));
  }
  /// A copy of `bytes` begins: from now to its end nobody may touch the place.
  void begin_copy(const Actor& who, int offset, int bytes) {
    for_units(offset, bytes, [&](size_t at) {
      check_write(who, at);
      units_[at].state = State::in_flight;
      units_[at].warp = static_cast<uint8_t>(who.warp);
    });
  }
  /// It ends, and is as if `who` had written it now. Copies of lanes go the way of stores, bulk copies that of wgmma.
  void end_copy(const Actor& who, int offset, int bytes, const void* from) {
    for_units(offset, bytes, [&](size_t at) {
      set_writer(who, at, 0);
      units_[at].by_store = who.lane != kWholeWarp;
    });
    std::memcpy(bytes_.data() + offset, from, static_cast<size_t>(bytes));
  }
  /// A proxy fence: what the warp stored before is there for wgmma too.
  void fence_stores(const Actor& who) { fenced_ages_[static_cast<size_t>(who.warp)] = own_age(who); }
  /// Throws where wgmma would read what a warp stored and did not fence.
  void check_fenced(const Actor& who, int offset, int bytes) {
    for_units(offset, bytes, [&](size_t at) {
      const Unit& unit = units_[at];
      if (unit.by_store && unit.age > fenced_ages_[unit.warp]) {
        fail(who, "reads by wgmma", at,
             fmt::format("which warp {} stored without fence_stores after it", static_cast<int>(unit.warp)));
      }
    });
  }
  /// Whether the last to write an element of this range was this warp, by a store of its own.
  [[nodiscard]] bool stored_by(int warp, int offset, int bytes) {
    bool any = false;
    for_units(offset, bytes,
              [&](size_t at) { any = any || (units_[at].element_bytes != 0 && units_[at].warp == warp); });
    return any;
  }

 private:
  enum class State : uint8_t { never_written, written, in_flight };
  struct Unit {
    uint32_t age = 0;   // of the writer when it wrote
    uint32_t turn = 0;  // likewise
    uint8_t warp = 0;
    int8_t lane = kWholeWarp;
    uint8_t element_bytes = 0;  // 0: a copy, any
    State state = State::never_written;
    bool by_store = false;  // not by a bulk copy
    int8_t read_warp = -1;  // the last reader
    int8_t read_lane = kWholeWarp;
    uint32_t read_turn = 0;
  };

  template <class F>
  void for_units(int offset, int bytes, F&& f) {
    if (offset < 0 || bytes < 0 || offset + bytes > this->bytes()) {
      deltatape::fail("tile", "shared memory at byte {} to {} is used, expected at most {}", offset, offset + bytes,
                      this->bytes());
    }
    for (int at = offset / 2; at < (offset + bytes + 1) / 2; ++at) {
      f(static_cast<size_t>(at));
    }
  }

  static std::string name(int warp, int lane) {
    return lane == kWholeWarp ? fmt::format("warp {}", warp) : fmt::format("lane {} of warp {}", lane, warp);
  }
  [[noreturn]] static void fail(const Actor& who, std::string_view does, size_t at, const std::string& why) {
    deltatape::fail("tile", "{} {} byte {} of shared memory, {}", name(who.warp, who.lane), does, 2 * at, why);
  }

  void check_read(const Actor& who, size_t at, int element_bytes) {
    Unit& unit = units_[at];
    if (unit.state == State::never_written) {
      fail(who, "reads", at, "which nobody has written");
    }
    if (unit.state == State::in_flight) {
      fail(who, "reads", at,
           fmt::format("to which a copy of warp {} is under way (a wait is missing)", static_cast<int>(unit.warp)));
    }
    check_writer_done(who, "reads", at);
    if (element_bytes != 0 && unit.element_bytes != 0 && element_bytes != unit.element_bytes) {
      fail(who, "reads", at,
           fmt::format("as elements of {} bytes, which was written as elements of {}", element_bytes,
                       static_cast<int>(unit.element_bytes)));
    }
    read_ages_[at * static_cast<size_t>(warps_) + static_cast<size_t>(who.warp)] = own_age(who);
    unit.read_lane = unit.read_warp == who.warp && unit.read_turn == who.turn && unit.read_lane != who.lane
                         ? kManyLanes
                         : static_cast<int8_t>(who.lane);
    unit.read_warp = static_cast<int8_t>(who.warp);
    unit.read_turn = who.turn;
  }

  void check_write(const Actor& who, size_t at) {
    const Unit& unit = units_[at];
    if (unit.state == State::in_flight) {
      fail(who, "writes", at,
           fmt::format("to which a copy of warp {} is under way (a wait is missing)", static_cast<int>(unit.warp)));
    }
    if (unit.state == State::written || unit.age != 0) {
      check_writer_done(who, "writes", at);
    }
    for (int w = 0; w < warps_; ++w) {
      const uint32_t age = read_ages_[at * static_cast<size_t>(warps_) + static_cast<size_t>(w)];
      if (w != who.warp && age > who.clock->age[static_cast<size_t>(w)]) {
        fail(who, "writes", at, fmt::format("which warp {} read since their last common barrier", w));
      }
    }
    // An instruction of the whole warp has read before any of its lanes goes on.
    const bool by_lane = unit.read_lane != kWholeWarp;
    if (by_lane && unit.read_warp == who.warp && unit.read_turn == who.turn && unit.read_lane != who.lane) {
      fail(who, "writes", at, "which another lane of the warp read since they were last synchronised");
    }
  }

  void check_writer_done(const Actor& who, std::string_view does, size_t at) const {
    const Unit& unit = units_[at];
    if (unit.warp != who.warp) {
      if (unit.age > who.clock->age[static_cast<size_t>(unit.warp)]) {
        fail(who, does, at,
             fmt::format("which warp {} wrote since their last common barrier", static_cast<int>(unit.warp)));
      }
    } else if (unit.state == State::written && unit.turn == who.turn && unit.lane != who.lane) {
      fail(who, does, at,
           fmt::format("which {} wrote since the lanes were last synchronised", name(unit.warp, unit.lane)));
    }
  }

  void set_writer(const Actor& who, size_t at, int element_bytes) {
    Unit& unit = units_[at];
    unit.age = own_age(who);
    unit.turn = who.turn;
    unit.warp = static_cast<uint8_t>(who.warp);
    unit.lane = static_cast<int8_t>(who.lane);
    unit.element_bytes = static_cast<uint8_t>(element_bytes);
    unit.by_store = true;
    unit.state = State::written;
  }

  static uint32_t own_age(const Actor& who) { return who.clock->age[static_cast<size_t>(who.warp)]; }

  static constexpr int8_t kManyLanes = -2;
  int warps_ = 0;
  std::vector<std::byte> bytes_;
  std::vector<Unit> units_;
  std::vector<uint32_t> read_ages_;    // [units, warps]
  std::vector<uint32_t> fenced_ages_;  // of each warp, at its last proxy fence
};

}  // namespace deltatape::cuda::tile::host
