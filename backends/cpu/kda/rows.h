// Rows of dense tensors in the type that kernels compute in.
#pragma once

#include <algorithm>

#include "backends/cpu/convert_rows.h"
#include "backends/cpu/kda/ahead.h"
#include "backends/cpu/stream_store.h"
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
  /// Where `count` rows lie, `step` rows apart; nothing where there is no tensor.
  [[nodiscard]] SpacedRows place(int64_t row, int64_t step, int64_t count) const {
    const int64_t bytes = width_ * element_;
    return data_ == nullptr ? SpacedRows{} : SpacedRows{data_ + row * bytes, count, bytes, step * bytes};
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

/// Writes rows; of a tensor that is not there it writes nothing. Large results are streamed: whoever writes calls
/// end_of_stream before other threads may read (run_tasks and the loops over parts of a task do).
template <class T>
class RowWriter {
 public:
  RowWriter() = default;
  RowWriter(const Tensor& x, int64_t width) : width_(width) {
    if (x.defined()) {
      data_ = static_cast<char*>(x.mutable_raw());
      element_ = static_cast<int64_t>(size_of(x.dtype()));
      convert_ = convert_row(dtype_of<T>, x.dtype());
      stream_ = x.dtype() == dtype_of<T> && x.numel() * element_ >= kStreamBytes;
    }
  }
  [[nodiscard]] bool present() const { return data_ != nullptr; }
  void write(int64_t row, int64_t first, int64_t count, const T* in) const {
    if (stream_ && count >= 64 / static_cast<int64_t>(sizeof(T))) {
      stream_store(data_ + (row * width_ + first) * element_, in, count * element_);
    } else if (data_ != nullptr) {
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
  bool stream_ = false;
};

}  // namespace deltatape::cpu::kda
