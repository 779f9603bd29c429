// Views of global memory.
#pragma once

#include "backends/cuda/kda/tile/lanes.h"
#include "backends/cuda/kda/tile/numbers.h"

#ifdef __CUDACC__
#include "backends/cuda/kda/tile/device/global_memory.h"
#else
#include "backends/cuda/kda/tile/host/global_memory.h"
#endif

namespace deltatape::cuda::tile {

/// `rows` x `cols` elements of T (BFloat16, Float16, float, int32_t ..; const T where they are only read) in global
/// memory, rows `stride` elements apart. `rows` may be fewer than a tile has: copies and stores of whole tiles leave
/// the rest out. Elements are read and written as what kernels compute in.
template <class T>
class GTile {
 public:
  using Element = T;
  using Value = computed<T>;
  using Plain = std::remove_const_t<T>;

  DT_DEVICE GTile(T* begin, int64_t stride, int rows, int cols)
      : begin_(begin), stride_(stride), rows_(rows), cols_(cols) {}

  [[nodiscard]] DT_DEVICE int rows() const { return rows_; }
  [[nodiscard]] DT_DEVICE int cols() const { return cols_; }

  DT_DEVICE Value operator()(int row, int col) const { return widen<Plain>(begin_.load(index(row, col, 1))); }
  DT_DEVICE void set(int row, int col, Value x) const { begin_.store(index(row, col, 1), narrow<Plain>(x)); }
  /// The element, or 0 in rows beyond the last.
  DT_DEVICE Value or_zero(int row, int col) const { return row < rows_ ? (*this)(row, col) : Value(0); }

  /// `n` neighbours of one row, from a column that is a multiple of n (at most 16 bytes in one access).
  template <int n>
  DT_DEVICE Values<Value, n> read(int row, int col) const {
    Values<Plain, n> raw;
    Values<Value, n> x;
    begin_.template load_many<n>(index(row, col, n), raw);
    unroll<n>([&](auto i) { x[i] = widen<Plain>(raw[i]); });
    return x;
  }
  template <int n>
  DT_DEVICE void write(int row, int col, const Values<Value, n>& x) const {
    Values<Plain, n> raw;
    unroll<n>([&](auto i) { raw[i] = narrow<Plain>(x[i]); });
    write_raw<n>(row, col, raw);
  }
  template <int n>
  DT_DEVICE void write_raw(int row, int col, const Values<Plain, n>& raw) const {
    begin_.template store_many<n>(index(row, col, n), raw);
  }

  /// Rows from `first` on: none where first >= rows().
  [[nodiscard]] DT_DEVICE GTile from_row(int first) const {
    GTile part = *this;
    part.begin_ = begin_ + stride_ * first;
    part.rows_ = rows_ > first ? rows_ - first : 0;
    return part;
  }

  DT_DEVICE GlobalPointer<T> begin() const { return begin_; }
  DT_DEVICE GlobalPointer<T> at(int row, int col, int count) const { return begin_ + index(row, col, count); }

 private:
  [[nodiscard]] DT_DEVICE int64_t index(int row, int col, int count) const {
    check_global_index(row, col, count, rows_, cols_);
    return stride_ * row + col;
  }

  GlobalPointer<T> begin_;
  int64_t stride_;
  int rows_;
  int cols_;
};

/// `n` elements one after the other.
template <class T>
DT_DEVICE GTile<T> global_row(T* begin, int n) {
  return GTile<T>(begin, n, 1, n);
}

}  // namespace deltatape::cuda::tile
