// Lines: all the one-dimensional slices of a tensor along one of its dimensions.
#pragma once

#include <cstdint>
#include <vector>

#include "backends/cpu/convert_rows.h"
#include "backends/cpu/stream_store.h"
#include "core/tensor.h"

namespace deltatape::cpu {

/// `x` at entry 0 of dimension `dim`: what to loop over to visit each line once.
inline Tensor line_starts(const Tensor& x, int dim) {
  Shape shape = x.shape();
  shape[dim] = 1;
  return x.as_view(shape, x.strides(), x.offset());
}

/// Gives lines as dense rows of T: the memory itself where that is what lies there, a buffer otherwise.
template <class T>
class LineReader {
 public:
  /// Lines of `count` elements of `dtype`, `stride` bytes apart.
  LineReader(DType dtype, int64_t stride, int64_t count)
      : convert_(convert_row(dtype, dtype_of<T>)),
        stride_(stride),
        count_(count),
        direct_(dtype == dtype_of<T> && (stride == static_cast<int64_t>(sizeof(T)) || count <= 1)),
        buffer_(direct_ ? 0 : static_cast<size_t>(count)) {}

  /// The line that starts at `from`; valid until the next call.
  const T* read(const char* from) {
    if (direct_) {
      return reinterpret_cast<const T*>(from);
    }
    convert_(from, stride_, reinterpret_cast<char*>(buffer_.data()), sizeof(T), count_);
    return buffer_.data();
  }

 private:
  ConvertRow convert_;
  int64_t stride_;
  int64_t count_;
  bool direct_;
  std::vector<T> buffer_;
};

/// Takes lines as dense rows of T: the memory itself, or a buffer that finish() converts or streams. Whoever asks for
/// streaming (of results of at least kStreamBytes) calls end_of_stream at the end.
template <class T>
class LineWriter {
 public:
  LineWriter(DType dtype, int64_t stride, int64_t count, bool stream = false)
      : convert_(convert_row(dtype_of<T>, dtype)),
        stride_(stride),
        count_(count),
        direct_(dtype == dtype_of<T> && (stride == static_cast<int64_t>(sizeof(T)) || count <= 1)),
        stream_(stream && direct_ && count * static_cast<int64_t>(sizeof(T)) >= kStreamedLine),
        buffer_(direct_ && !stream_ ? 0 : static_cast<size_t>(count)) {}

  /// Where to put the line that belongs at `to`.
  T* begin(char* to) { return direct_ && !stream_ ? reinterpret_cast<T*>(to) : buffer_.data(); }
  void finish(char* to) {
    if (stream_) {
      stream_store(to, buffer_.data(), count_ * static_cast<int64_t>(sizeof(T)));
    } else if (!direct_) {
      convert_(reinterpret_cast<const char*>(buffer_.data()), sizeof(T), to, stride_, count_);
    }
  }

 private:
  static constexpr int64_t kStreamedLine = 1024;  // bytes; shorter lines take longer streamed than stored

  ConvertRow convert_;
  int64_t stride_;
  int64_t count_;
  bool direct_;
  bool stream_;
  std::vector<T> buffer_;
};

/// Byte stride of a dimension.
inline int64_t byte_stride(const Tensor& x, int dim) {
  return x.strides()[dim] * static_cast<int64_t>(size_of(x.dtype()));
}

}  // namespace deltatape::cpu
