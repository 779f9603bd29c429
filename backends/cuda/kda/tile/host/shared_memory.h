// The host twin of device/shared_memory.h: a place in the shadowed memory of the block that runs.
#pragma once

#include "backends/cuda/kda/tile/host/machine.h"
#include "backends/cuda/kda/tile/target.h"

namespace deltatape::cuda::tile {

template <class T>
class SharedPointer {
 public:
  explicit SharedPointer(int byte) : byte_(byte) {}
  SharedPointer operator+(int i) const { return SharedPointer(byte_of(i)); }
  T load(int i) const {
    Values<T, 1> x;
    load_many<1>(i, x);
    return x[0];
  }
  void store(int i, T x) const { store_many<1>(i, Values<T, 1>{{x}}); }
  template <int n>
  void load_many(int i, Values<T, n>& to) const {
    check_access<n>(i);
    host::Machine& machine = host::Machine::get();
    machine.shared.read(machine.actor(), byte_of(i), n * kSize, kSize, to.x);
  }
  template <int n>
  void store_many(int i, const Values<T, n>& from) const {
    check_access<n>(i);
    host::Machine& machine = host::Machine::get();
    check(machine.lane() != host::kWholeWarp, "tile",
          "an element of shared memory is written outside of per-lane code, expected each_lane, each or one_lane");
    machine.shared.write(machine.actor(), byte_of(i), n * kSize, kSize, from.x);
  }
  [[nodiscard]] int byte() const { return byte_; }

 private:
  static constexpr int kSize = static_cast<int>(sizeof(T));
  [[nodiscard]] int byte_of(int i) const { return byte_ + i * kSize; }

  template <int n>
  void check_access(int i) const {
    constexpr int kAlignment = n * kSize < 16 ? n * kSize : 16;
    check(byte_of(i) % kAlignment == 0, "tile", "{} elements of {} bytes at byte {} of shared memory are not aligned",
          n, kSize, byte_of(i));
  }

  int byte_;
};

inline void check_index(int row, int col, int rows, int cols) {
  check(row >= 0 && row < rows && col >= 0 && col < cols, "tile",
        "element ({}, {}) of a tile in shared memory of {} x {} is used", row, col, rows, cols);
}

}  // namespace deltatape::cuda::tile
