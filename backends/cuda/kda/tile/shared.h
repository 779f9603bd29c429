// Views of a block's shared memory.
#pragma once

#include "backends/cuda/kda/tile/lanes.h"
#include "backends/cuda/kda/tile/layout.h"
#include "backends/cuda/kda/tile/numbers.h"

#ifdef __CUDACC__
#include "backends/cuda/kda/tile/device/shared_memory.h"
#else
#include "backends/cuda/kda/tile/host/shared_memory.h"
#endif

namespace deltatape::cuda::tile {

/// A tile of `rows` x `cols` elements of T in shared memory, laid out by `Layout`. Elements are read and written as
/// what kernels compute in (float for BFloat16). Made by Block::shared; a block's memory may be viewed in several ways,
/// one after the other with a barrier between.
template <class T, int rows, int cols, class Layout = Strided<cols>>
class STile {
 public:
  using Element = T;
  using Value = computed<T>;
  static constexpr int kRows = rows;
  static constexpr int kCols = cols;
  static constexpr int kElements = Layout::template elements<T, cols>(rows);
  static constexpr int kBytes = round_up(kElements * static_cast<int>(sizeof(T)), 16);

  DT_DEVICE explicit STile(SharedPointer<T> begin) : begin_(begin) {}

  DT_DEVICE Value operator()(int row, int col) const { return widen(begin_.load(index(row, col))); }
  DT_DEVICE void set(int row, int col, Value x) const { begin_.store(index(row, col), narrow<T>(x)); }

  /// `n` neighbours of one row, from a column that is a multiple of n (at most 16 bytes in one access).
  template <int n>
  DT_DEVICE Values<Value, n> read(int row, int col) const {
    Values<T, n> raw;
    Values<Value, n> x;
    read_raw(row, col, raw);
    unroll<n>([&](auto i) { x[i] = widen(raw[i]); });
    return x;
  }
  template <int n>
  DT_DEVICE void write(int row, int col, const Values<Value, n>& x) const {
    Values<T, n> raw;
    unroll<n>([&](auto i) { raw[i] = narrow<T>(x[i]); });
    write_raw(row, col, raw);
  }
  template <int n>
  DT_DEVICE void read_raw(int row, int col, Values<T, n>& to) const {
    begin_.template load_many<n>(index(row, col), to);
  }
  template <int n>
  DT_DEVICE void write_raw(int row, int col, const Values<T, n>& from) const {
    begin_.template store_many<n>(index(row, col), from);
  }

  /// Rows first .. first + n - 1 as a tile of their own; `first` must be a multiple of 8 where the layout is Swizzled.
  template <int n>
  DT_DEVICE STile<T, n, cols, Layout> part(int first) const {
    return STile<T, n, cols, Layout>(begin_ + Layout::template index<T, cols>(first, 0));
  }

  DT_DEVICE SharedPointer<T> at(int row, int col) const { return begin_ + index(row, col); }
  DT_DEVICE SharedPointer<T> begin() const { return begin_; }

 private:
  DT_DEVICE static int index(int row, int col) {
    check_index(row, col, rows, cols);
    return Layout::template index<T, cols>(row, col);
  }

  SharedPointer<T> begin_;
};

/// A row of `n` elements.
template <class T, int n>
using SRow = STile<T, 1, n>;

}  // namespace deltatape::cuda::tile
