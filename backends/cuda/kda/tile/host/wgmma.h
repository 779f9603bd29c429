// The host twin of device/wgmma.h. A product is computed when the warp waits for it, from what shared memory holds
// then; that it still holds what it did when the product was begun is checked. Until then the registers of the left
// operand and of the sums hold NaN: PTX lets nobody look at them.
#pragma once

#include <array>
#include <bit>
#include <cstring>
#include <utility>
#include <vector>

#include "backends/cuda/kda/tile/fragments.h"
#include "backends/cuda/kda/tile/host/machine.h"
#include "backends/cuda/kda/tile/host/shared_memory.h"
#include "backends/cuda/kda/tile/target.h"

namespace deltatape::cuda::tile {

template <int n>
class WgAcc {
 public:
  static constexpr int kTiles = n / 16;
  using Tiles = std::array<Acc, static_cast<size_t>(kTiles)>;

  WgAcc() = default;
  WgAcc(const WgAcc&) = delete;
  WgAcc& operator=(const WgAcc&) = delete;

  Acc& operator[](int t) {
    touch(t);
    return tiles_[static_cast<size_t>(t)];
  }
  const Acc& operator[](int t) const {
    touch(t);
    return tiles_[static_cast<size_t>(t)];
  }

  // What follows is for the products below.

  void fence() {
    check(state_ == State::free, "tile::wg_fence", "sums of products under way are named, expected others");
    fenced_ = true;
  }
  /// One more product is begun: until they are named by a wait, the registers hold nothing that means something.
  void begin() {
    check(fenced_, "tile::wg_mma", "sums were touched after the last wg_fence that named them");
    if (state_ == State::free) {
      sums_ = tiles_;
      for (Acc& tile : tiles_) {
        fill(tile, std::bit_cast<float>(kUnderWay));
      }
    }
    state_ = State::under_way;
    ++begun_;
  }
  /// The oldest product is over. `add` is what it does to the sums.
  template <class F>
  void finish(F&& add) {
    for (const Acc& tile : tiles_) {
      for (int i = 0; i < kLanes * Acc::kPerLane; ++i) {
        check(std::bit_cast<uint32_t>(tile.x(i / Acc::kPerLane, i % Acc::kPerLane)) == kUnderWay, "tile::wg_wait",
              "sums were written while products into them were under way");
      }
    }
    add(sums_);
    --begun_;
  }
  /// The registers are ordinary ones again.
  void name() {
    check(begun_ == 0, "tile::wg_wait", "sums are named into which {} products are still under way", begun_);
    if (state_ == State::under_way) {
      tiles_ = sums_;
      state_ = State::free;
    }
  }

 private:
  static_assert(n == 64 || n == 128);
  static constexpr uint32_t kUnderWay = 0xfffefefeU;  // a NaN that no kernel computes
  enum class State : uint8_t { free, under_way };

  void touch(int t) const {
    check(t >= 0 && t < kTiles, "tile::WgAcc", "tile {} is used, expected less than {}", t, kTiles);
    check(state_ == State::free, "tile::WgAcc", "sums are used before a wg_wait has named them");
    fenced_ = false;
  }

  Tiles tiles_;
  Tiles sums_;  // of products begun
  State state_ = State::free;
  int begun_ = 0;
  mutable bool fenced_ = false;
};

namespace host {

/// Where element (k, j) of the right operand lies, as the PTX manual has it: by the fields of a descriptor with rows of
/// 128 bytes along n (`rows_of_k`) or along k, and then the swizzle: bits 4 to 6 of the address, changed by 7 to 9.
constexpr int operand_byte(uint64_t descriptor, bool rows_of_k, int k, int j) {
  constexpr uint64_t kField = 0x3fff;
  const auto begin = static_cast<int>((descriptor & kField) << 4);
  const auto leading = static_cast<int>((descriptor >> 16 & kField) << 4);
  const auto stride = static_cast<int>((descriptor >> 32 & kField) << 4);
  const int byte = rows_of_k ? begin + k / 8 * stride + k % 8 * 128 + j / 64 * leading + j % 64 * 2
                             : begin + j / 8 * stride + j % 8 * 128 + k * 2;
  return byte ^ (byte >> 7 & 7) << 4;
}

/// B[16,n] of a product.
template <int n>
struct RightOperand {
  uint16_t x[16][n];

  void read(uint64_t descriptor, bool rows_of_k) {
    Machine& machine = Machine::get();
    const auto read_chunk = [&](int k, int j, uint16_t(&chunk)[8]) {
      const int byte = operand_byte(descriptor, rows_of_k, k, j);
      machine.shared.read(machine.actor(), byte, 16, 2, chunk);
      machine.shared.check_fenced(machine.actor(), byte, 16);
    };
    uint16_t chunk[8];
    if (rows_of_k) {
      for (int k = 0; k < 16; ++k) {
        for (int j = 0; j < n; j += 8) {
          read_chunk(k, j, chunk);
          std::memcpy(&x[k][j], chunk, sizeof(chunk));
        }
      }
    } else {
      for (int j = 0; j < n; ++j) {
        for (int k = 0; k < 16; k += 8) {
          read_chunk(k, j, chunk);
          for (int i = 0; i < 8; ++i) {
            x[k + i][j] = chunk[i];
          }
        }
      }
    }
  }
};

inline OperandBits bits_of(const FragA& a) {
  OperandBits bits{};
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int r = 0; r < 4; ++r) {
      bits[static_cast<size_t>(lane)][static_cast<size_t>(r)] = a.x(lane, r);
    }
  }
  return bits;
}

/// d (= 0 first, with `from_zero`) += a b, each product exact, summed in f32 in the order of k.
template <int n>
void multiply(typename WgAcc<n>::Tiles& d, bool from_zero, const OperandBits& a, const RightOperand<n>& b) {
  float left[16][16];
  float sum[16][n];
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int i = 0; i < FragA::kPerLane; ++i) {
      const Place at = FragA::place(lane, i);
      const uint32_t pair = a[static_cast<size_t>(lane)][static_cast<size_t>(i / 2)];
      left[at.row][at.col] = i % 2 == 0 ? low_bf16(pair) : high_bf16(pair);
    }
  }
  const auto each_sum = [&](auto&& f) {
    for (int t = 0; t < n / 16; ++t) {
      for (int lane = 0; lane < kLanes; ++lane) {
        for (int i = 0; i < Acc::kPerLane; ++i) {
          const Place at = Acc::place(lane, i);
          f(d[static_cast<size_t>(t)].x(lane, i), sum[at.row][16 * t + at.col]);
        }
      }
    }
  };
  each_sum([&](const float& of_lane, float& x) { x = from_zero ? 0.0F : of_lane; });
  for (int k = 0; k < 16; ++k) {
    float right[n];
    for (int j = 0; j < n; ++j) {
      right[j] = low_bf16(b.x[k][j]);
    }
    for (int i = 0; i < 16; ++i) {
      for (int j = 0; j < n; ++j) {
        sum[i][j] += left[i][k] * right[j];
      }
    }
  }
  each_sum([&](float& of_lane, const float& x) { of_lane = x; });
}

inline void set_bits(FragA& a, const OperandBits& bits) {
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int r = 0; r < 4; ++r) {
      a.x(lane, r) = bits[static_cast<size_t>(lane)][static_cast<size_t>(r)];
    }
  }
}

/// What a left operand holds while products read it: pairs of a NaN in bf16 that no kernel computes.
inline const OperandBits& bits_under_way() {
  static const OperandBits bits = [] {
    OperandBits all{};
    for (auto& lane : all) {
      lane.fill(0xfffefffeU);
    }
    return all;
  }();
  return bits;
}

/// A product that reads a left operand is begun. Gives what the operand holds.
inline OperandBits begin_left(WarpgroupWork& work, FragA& a) {
  const auto fenced = work.left.find(&a);
  check(fenced != work.left.end() &&
            host::bits_of(a) == (fenced->second.readers > 0 ? bits_under_way() : fenced->second.bits),
        "tile::wg_mma", "the left operand was written after the last wg_fence that named it");
  ++fenced->second.readers;
  set_bits(a, bits_under_way());
  return fenced->second.bits;
}
/// It is over.
inline void end_left(WarpgroupWork& work, FragA& a) {
  check(host::bits_of(a) == bits_under_way(), "tile::wg_wait",
        "a left operand was changed, or is no longer there, before the wait");
  LeftOperand& left = work.left.at(&a);
  --left.readers;
  if (left.readers == 0) {
    set_bits(a, left.bits);
  }
}

enum class WarpgroupAction : uint8_t { product, fence, commit, wait, give_registers, take_registers };
inline void warpgroup_step(std::string_view name, WarpgroupAction what, uint64_t detail) {
  Machine::get().warpgroup_step(name, {.what = static_cast<uint64_t>(what), .detail = detail});
}

}  // namespace host

template <class T>
uint32_t panel_address(SharedPointer<T> begin) {
  check(begin.byte() % kPanelAlignment == 0, "tile::wg_mma", "a tile begins at byte {}, expected a multiple of {}",
        begin.byte(), kPanelAlignment);
  return static_cast<uint32_t>(begin.byte());
}

template <bool from_zero, bool rows_of_k, int n>
void begin_product(WgAcc<n>& d, FragA& a, uint64_t b) {
  host::Machine& machine = host::Machine::get();
  constexpr uint64_t kShape = (from_zero ? 1 : 0) + (rows_of_k ? 2 : 0) + (n == 128 ? 4 : 0);
  host::warpgroup_step("wg_mma", host::WarpgroupAction::product, b << 3 | kShape);  // the swizzle is always the same
  host::WarpgroupWork& work = machine.self().products;
  const host::OperandBits left = host::begin_left(work, a);
  host::RightOperand<n> right;
  right.read(b, rows_of_k);
  d.begin();
  ++work.uncommitted;
  work.begun.push_back({.group = work.group, .finish = [&work, &d, &a, b, left, right] {
                          host::end_left(work, a);
                          host::RightOperand<n> now;
                          now.read(b, rows_of_k);
                          check(std::memcmp(now.x, right.x, sizeof(now.x)) == 0, "tile::wg_wait",
                                "a right operand was changed in shared memory before the wait");
                          d.finish(
                              [&](typename WgAcc<n>::Tiles& sums) { host::multiply<n>(sums, from_zero, left, now); });
                        }});
}

template <int n>
void pin(WgAcc<n>& sums) {
  sums.fence();
}
inline void pin(FragA& a) {
  host::LeftOperand& left = host::Machine::get().self().products.left[&a];
  check(left.readers == 0, "tile::wg_fence", "a left operand of products under way is named, expected others");
  left.bits = host::bits_of(a);
}
template <int n>
void pin(FragA (&a)[n]) {
  for (FragA& one : a) {
    pin(one);
  }
}
template <int n>
void unpin(WgAcc<n>& sums) {
  sums.name();
}

inline void fence_registers() { host::warpgroup_step("wg_fence", host::WarpgroupAction::fence, 0); }

inline void wg_commit() {
  host::warpgroup_step("wg_commit", host::WarpgroupAction::commit, 0);
  host::WarpgroupWork& work = host::Machine::get().self().products;
  ++work.group;
  work.uncommitted = 0;
}

template <int n>
void wait_products() {
  host::warpgroup_step("wg_wait", host::WarpgroupAction::wait, n);
  host::WarpgroupWork& work = host::Machine::get().self().products;
  check(work.uncommitted == 0, "tile::wg_wait", "{} products were begun and not committed", work.uncommitted);
  size_t over = 0;
  while (over < work.begun.size() && work.begun[over].group + n < work.group) {
    work.begun[over].finish();
    ++over;
  }
  work.begun.erase(work.begun.begin(), work.begun.begin() + static_cast<std::ptrdiff_t>(over));
}

inline void no_warpgroups() { fail("tile::no_warpgroups", "the twin has warpgroups, expected not to come here"); }

inline void fence_stores() {
  host::Machine& machine = host::Machine::get();
  machine.check_whole_warp("fence_stores");
  machine.shared.fence_stores(machine.actor());
  machine.grow(machine.self());
}

template <class Address>
void stmatrix_trans(const PerLane<uint32_t, 4>& x, Address&& address) {
  host::Machine& machine = host::Machine::get();
  machine.check_whole_warp("stmatrix");
  for (int lane = 0; lane < kLanes; ++lane) {
    const int matrix = lane / 8;
    const int row = lane % 8;
    const int to = address(lane).byte();
    check(to % 16 == 0, "tile",
          "stmatrix: the address of lane {} is byte {} of shared memory, expected a multiple of 16", lane, to);
    uint16_t elements[8];
    for (int i = 0; i < 8; ++i) {  // a lane holds two neighbours of a row of the registers, which becomes a column
      elements[i] = static_cast<uint16_t>(x(4 * i + row / 2, matrix) >> (row % 2 * 16));
    }
    machine.shared.write(machine.actor(), to, 16, 2, elements);
  }
}

template <int n>
void give_registers() {
  static_assert(n % 8 == 0 && n >= 24 && n <= 256);
  host::warpgroup_step("give_registers", host::WarpgroupAction::give_registers, n);
}
template <int n>
void take_registers() {
  static_assert(n % 8 == 0 && n >= 24 && n <= 256);
  host::warpgroup_step("take_registers", host::WarpgroupAction::take_registers, n);
}

}  // namespace deltatape::cuda::tile
