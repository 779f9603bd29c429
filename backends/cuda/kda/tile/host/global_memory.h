// The host twin of device/global_memory.h: a pointer whose every use is checked against the test's buffers.
#pragma once

#include <cstring>
#include <type_traits>

#include "backends/cuda/kda/tile/host/machine.h"
#include "backends/cuda/kda/tile/target.h"

namespace deltatape::cuda::tile {

template <class T>
class GlobalPointer {
 public:
  using Plain = std::remove_const_t<T>;
  GlobalPointer(T* data) : GlobalPointer(data, host::find_buffer(data)) {}  // NOLINT: a view of a plain pointer
  GlobalPointer operator+(int64_t i) const { return GlobalPointer(moved(i), buffer_); }
  Plain load(int64_t i) const {
    Values<Plain, 1> x;
    load_many<1>(i, x);
    return x[0];
  }
  void store(int64_t i, Plain x) const { store_many<1>(i, Values<Plain, 1>{{x}}); }
  template <int n>
  void load_many(int64_t i, Values<Plain, n>& to) const {
    check_access<n>(i, false);
    std::memcpy(to.x, moved(i), sizeof(to.x));
  }
  template <int n>
  void store_many(int64_t i, const Values<Plain, n>& from) const {
    check_access<n>(i, true);
    std::memcpy(moved(i), from.x, sizeof(from.x));
  }
  /// For copies: `bytes` from here are read.
  void check_copied(int64_t bytes) const { host::check_global(buffer_, data_, static_cast<size_t>(bytes), false); }
  T* data() const { return data_; }

 private:
  GlobalPointer(T* data, host::Buffer* buffer) : data_(data), buffer_(buffer) {}

  /// Arithmetic on numbers: a view may point before or behind a buffer as long as nothing is read there.
  [[nodiscard]] T* moved(int64_t i) const {
    const uintptr_t address =
        reinterpret_cast<uintptr_t>(data_) + static_cast<uintptr_t>(i * static_cast<int64_t>(sizeof(T)));
    return reinterpret_cast<T*>(address);  // NOLINT(performance-no-int-to-ptr)
  }

  template <int n>
  void check_access(int64_t i, bool write) const {
    check(!write || host::Machine::get().lane() != host::kWholeWarp, "tile",
          "an element of global memory is written outside of per-lane code, expected each_lane, each or one_lane");
    constexpr size_t kBytes = n * sizeof(T);
    constexpr size_t kAlignment = kBytes < 16 ? kBytes : 16;
    check(reinterpret_cast<uintptr_t>(moved(i)) % kAlignment == 0, "tile",
          "{} elements of {} bytes of global memory are not aligned", n, sizeof(T));
    host::check_global(buffer_, moved(i), kBytes, write);
  }

  T* data_;
  host::Buffer* buffer_;
};

inline void check_global_index(int row, int col, int count, int rows, int cols) {
  check(row >= 0 && row < rows && col >= 0 && col + count <= cols, "tile",
        "elements ({}, {}) to ({}, {}) of a view of global memory of {} x {} are used", row, col, row, col + count - 1,
        rows, cols);
}

}  // namespace deltatape::cuda::tile
