// Lines of a tensor along one dimension, as kernels read and write them: 16 bytes at a time where they lie so.
#pragma once

#include <cstdint>

#include "backends/cuda/block_launch.h"
#include "backends/cuda/element.h"
#include "core/tensor.h"

namespace deltatape::cuda {

/// Elements in 16 bytes.
template <class T>
inline constexpr int kPack = static_cast<int>(16 / sizeof(T));

/// Number of packs of which `length` elements consist; the last may be short.
template <class T>
DT_HD constexpr int64_t packs_of(int64_t length) {
  return (length + kPack<T> - 1) / kPack<T>;
}

/// Neighbouring elements, converted.
template <class T>
struct Pack {
  Compute<T> v[kPack<T>];
  DT_HD Compute<T>& operator[](int i) { return v[i]; }
  DT_HD const Compute<T>& operator[](int i) const { return v[i]; }
};

/// Lines of up to so many packs are given to one warp.
inline constexpr int64_t kPacksOfWarp = 128;

namespace detail {
template <class T>
struct alignas(16) PackWords {
  T v[kPack<T>];
};
}  // namespace detail

/// One line for reading. Pack p has elements p kPack, p kPack + 1, ..
template <class T>
class Line {
 public:
  DT_HD Line(const T* data, int64_t stride, int64_t length, bool vector)
      : data_(data), stride_(stride), length_(length), vector_(vector) {}
  /// Element i.
  DT_HD Compute<T> operator[](int64_t i) const { return widen(data_[i * stride_]); }
  /// Behind the end stands `missing`.
  DT_HD Pack<T> pack(int64_t p, Compute<T> missing = Compute<T>(0)) const {
    Pack<T> result;
    const int64_t first = p * kPack<T>;
    if (vector_ && first + kPack<T> <= length_) {
      const auto words = *reinterpret_cast<const detail::PackWords<T>*>(data_ + first);
      for (int j = 0; j < kPack<T>; ++j) {
        result[j] = widen(words.v[j]);
      }
    } else {
      for (int j = 0; j < kPack<T>; ++j) {
        result[j] = first + j < length_ ? widen(data_[(first + j) * stride_]) : missing;
      }
    }
    return result;
  }

 private:
  const T* data_;
  int64_t stride_;
  int64_t length_;
  bool vector_;
};

/// One line for writing.
template <class T>
class OutLine {
 public:
  DT_HD OutLine(T* data, int64_t stride, int64_t length, bool vector)
      : data_(data), stride_(stride), length_(length), vector_(vector) {}
  DT_HD void set(int64_t i, Compute<T> value) const { data_[i * stride_] = narrow<T>(value); }
  /// What would stand behind the end is left out.
  DT_HD void set_pack(int64_t p, const Pack<T>& values) const {
    const int64_t first = p * kPack<T>;
    if (vector_ && first + kPack<T> <= length_) {
      detail::PackWords<T> words;
      for (int j = 0; j < kPack<T>; ++j) {
        words.v[j] = narrow<T>(values[j]);
      }
      *reinterpret_cast<detail::PackWords<T>*>(data_ + first) = words;
    } else {
      for (int j = 0; j < kPack<T>; ++j) {
        if (first + j < length_) {
          data_[(first + j) * stride_] = narrow<T>(values[j]);
        }
      }
    }
  }

 private:
  T* data_;
  int64_t stride_;
  int64_t length_;
  bool vector_;
};

/// All lines along a dimension, counted in row-major order of the others: as two dimensions, [count / inner, inner].
struct LineLayout {
  int64_t count = 0;
  int64_t length = 0;
  int64_t stride = 1;        // from element to element of a line
  int64_t inner = 1;         // lines that lie `inner_stride` apart
  int64_t inner_stride = 0;  // all strides in elements
  int64_t outer_stride = 0;
  bool vector = false;  // each line starts at a multiple of 16 bytes, and its elements are neighbours

  /// Of line `row`'s first element.
  [[nodiscard]] DT_HD int64_t offset(int64_t row) const {
    if (inner == 1) {
      return row * outer_stride;
    }
    const Division place = divide(row, inner);
    return place.quotient * outer_stride + place.remainder * inner_stride;
  }
};

/// A tensor's lines, for kernels. An undefined tensor gives null.
template <class T>
struct Lines {
  T* data = nullptr;
  LineLayout layout;

  DT_HD explicit operator bool() const { return data != nullptr; }
  [[nodiscard]] DT_HD Line<T> line(int64_t row) const {
    return {data + layout.offset(row), layout.stride, layout.length, layout.vector};
  }
  [[nodiscard]] DT_HD OutLine<T> out_line(int64_t row) const {
    return {data + layout.offset(row), layout.stride, layout.length, layout.vector};
  }
};

/// The lines of `x` along `dim`. `fits` is false when the other dimensions do not merge into two.
struct FoundLayout {
  LineLayout layout;
  bool fits = false;
};
FoundLayout line_layout(const Tensor& x, int dim);

/// `x` itself where its lines along `dim` can be described, else a dense copy.
Tensor with_lines(const Tensor& x, int dim);
inline Tensor with_rows(const Tensor& x) { return with_lines(x, x.rank() - 1); }

/// The lines of a tensor for which line_layout fits (every dense one, and what with_lines gives).
template <class T>
Lines<T> lines_of(const Tensor& x, int dim) {
  if (!x.defined()) {
    return {};
  }
  return {static_cast<T*>(x.mutable_raw()), line_layout(x, dim).layout};
}
template <class T>
Lines<T> rows_of(const Tensor& x) {
  return lines_of<T>(x, x.defined() ? x.rank() - 1 : 0);
}

/// body(line, pack) for every pack of every line.
template <class T, class Body>
struct ByPack {
  int64_t packs;  // per line
  Body body;
  DT_HD void operator()(int64_t i) const {
    const Division place = divide(i, packs);
    body(place.quotient, place.remainder);
  }
};
template <class T, class Body>
void launch_packs(const Stream& stream, const LineLayout& layout, const Body& body) {
  const int64_t packs = packs_of<T>(layout.length);
  launch_elements(stream, layout.count * packs, ByPack<T, Body>{packs, body});
}

/// Launches Program<threads, T>{arguments..}, whose blocks are lines or groups of them: a warp each where lines are
/// short, else 256 threads.
template <class T, template <int, class> class Program, class... Arguments>
void launch_for_lines(const Stream& stream, int64_t blocks, int64_t length, int64_t shared,
                      const Arguments&... arguments) {
  // At least 768 threads per multiprocessor (512 for f64): fewer do not keep enough reads under way.
  constexpr bool kWide = sizeof(Compute<T>) == 8;
  if (packs_of<T>(length) <= kPacksOfWarp) {
    launch_program<kWarp, kWide ? 4 : 6>(stream, blocks, shared, Program<kWarp, T>{arguments...});
  } else {
    launch_program<256, kWide ? 2 : 3>(stream, blocks, shared, Program<256, T>{arguments...});
  }
}

}  // namespace deltatape::cuda
