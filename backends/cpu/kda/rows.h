// Rows of dense tensors in the type that kernels compute in.
#pragma once

#include <algorithm>

#include "backends/cpu/convert_rows.h"
#include "core/tensor.h"

namespace deltatape::cpu::kda {

/// Reads rows of `width` elements; default-constructed it stands for a tensor that is not there.
template <class T>
class RowReader {
 public:
  RowReader() = default;
  RowReader(const Tensor& x, int64_t width) : width_(width) {
    if (x.defined()) {
      data_ = static_cast<const char*>(x.raw());
      element_ = static_cast<int64_t>(size_of(x.dtype()));
      convert_ = convert_row(x.dtype(), dtype_of<T>);
    }
  }
  [[nodiscard]] bool present() const { return data_ != nullptr; }
  /// Asks for a row to be brought near: rows of one head are far apart, so the processor does not see what comes next.
  void prefetch(int64_t row) const {
    for (int64_t byte = 0; byte < width_ * element_; byte += 64) {
      __builtin_prefetch(data_ + row * width_ * element_ + byte, 0, 2);
    }
  }
  /// Columns [first, first + count) of a row.
  void read(int64_t row, int64_t first, int64_t count, T* out) const {
    convert_(data_ + (row * width_ + first) * element_, element_, reinterpret_cast<char*>(out), sizeof(T), count);
  }
  /// A whole row, then zeros up to `padded` elements.
  void read_padded(int64_t row, T* out, int64_t padded) const {
    read(row, 0, width_, out);
    std::fill(out + width_, out + padded, T(0));
  }
  /// Column `column` of all `count` rows from `row` on.
  void read_column(int64_t row, int64_t column, int64_t count, T* out) const {
    convert_(data_ + (row * width_ + column) * element_, width_ * element_, reinterpret_cast<char*>(out), sizeof(T),
             count);
  }

 private:
  const char* data_ = nullptr;
  int64_t element_ = 0;
  int64_t width_ = 0;
  ConvertRow convert_ = nullptr;
};

/// Writes rows; of a tensor that is not there it writes nothing.
template <class T>
class RowWriter {
 public:
  RowWriter() = default;
  RowWriter(const Tensor& x, int64_t width) : width_(width) {
    if (x.defined()) {
      data_ = static_cast<char*>(x.mutable_raw());
      element_ = static_cast<int64_t>(size_of(x.dtype()));
      convert_ = convert_row(dtype_of<T>, x.dtype());
    }
  }
  [[nodiscard]] bool present() const { return data_ != nullptr; }
  /// Asks for columns [first, first + count) of a row to be brought near, for a write to come.
  void prefetch(int64_t row, int64_t first, int64_t count) const {
    const char* begin = data_ + (row * width_ + first) * element_;
    for (int64_t byte = 0; byte < count * element_; byte += 64) {
      __builtin_prefetch(begin + byte, 1, 3);
    }
  }
  void write(int64_t row, int64_t first, int64_t count, const T* in) const {
    if (data_ != nullptr) {
      convert_(reinterpret_cast<const char*>(in), sizeof(T), data_ + (row * width_ + first) * element_, element_,
               count);
    }
  }
  void write_row(int64_t row, const T* in) const { write(row, 0, width_, in); }
  void write_column(int64_t row, int64_t column, int64_t count, const T* in) const {
    if (data_ != nullptr) {
      convert_(reinterpret_cast<const char*>(in), sizeof(T), data_ + (row * width_ + column) * element_,
               width_ * element_, count);
    }
  }

 private:
  char* data_ = nullptr;
  int64_t element_ = 0;
  int64_t width_ = 0;
  ConvertRow convert_ = nullptr;
};

}  // namespace deltatape::cpu::kda
