// map_rows: drives an elementwise row kernel over tensors of any strides and dtypes.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "backends/cpu/convert_rows.h"
#include "backends/cpu/row_loop.h"
#include "backends/cpu/stream_store.h"
#include "backends/cpu/vec.h"
#include "core/tensor.h"

namespace deltatape::cpu {

/// One operand of a row kernel: element i is data[i * step], and step is 0 (one value for the whole row) or 1.
template <class T>
struct RowView {
  const T* data = nullptr;
  int64_t step = 1;
};

/// What a dtype is computed in: f64 and f32 as they are, bf16 and f16 in f32, integers and bool in i64.
/// Calls f with a value of that type.
template <class F>
decltype(auto) visit_compute_type(DType dtype, F&& f) {
  switch (dtype) {
    case DType::f64:
      return f(double{});
    case DType::f32:
    case DType::bf16:
    case DType::f16:
      return f(float{});
    case DType::i64:
    case DType::i32:
    case DType::boolean:
      break;
  }
  return f(int64_t{});
}

namespace detail {

/// Elements converted at a time: a few buffers of them fit the first-level cache.
inline constexpr int64_t kBlock = 512;

template <class T, class Out, size_t N>
class RowMapper {
 public:
  RowMapper(const std::array<const Tensor*, N>& inputs, const Tensor& out, const RowLoop<N + 1>& loop) {
    for (size_t k = 0; k < N; ++k) {
      const DType dtype = inputs[k]->dtype();
      strides_[k] = loop.row_strides()[k + 1];
      convert_[k] = convert_row(dtype, dtype_of<T>);
      direct_[k] = dtype == dtype_of<T> && (strides_[k] == static_cast<int64_t>(sizeof(T)) || strides_[k] == 0);
      all_direct_ = all_direct_ && direct_[k];
    }
    out_stride_ = loop.row_strides()[0];
    convert_out_ = convert_row(dtype_of<Out>, out.dtype());
    out_direct_ =
        out.dtype() == dtype_of<Out> && (out_stride_ == static_cast<int64_t>(sizeof(Out)) || loop.size(0) == 1);
    stream_ = out_direct_ && out.numel() * static_cast<int64_t>(sizeof(Out)) >= kStreamBytes && loop.size(0) >= kBlock;
  }

  template <class Kernel>
  void row(const std::array<char*, N + 1>& at, int64_t count, Kernel kernel) const {
    if (all_direct_ && out_direct_ && !stream_) {
      std::array<RowView<T>, N> views;
      for (size_t k = 0; k < N; ++k) {
        views[k] = {reinterpret_cast<const T*>(at[k + 1]), strides_[k] == 0 ? 0 : 1};
      }
      call(kernel, views, reinterpret_cast<Out*>(at[0]), count, std::make_index_sequence<N>{});
      return;
    }
    blocks(at, count, kernel);
  }

  template <class Kernel, size_t... k>
  static void call(Kernel kernel, const std::array<RowView<T>, N>& views, Out* out, int64_t count,
                   std::index_sequence<k...> /*inputs*/) {
    kernel(views[k]..., out, count);
  }

 private:
  template <class Kernel>
  void blocks(const std::array<char*, N + 1>& at, int64_t count, Kernel kernel) const {
    alignas(64) T buffers[N][static_cast<size_t>(kBlock)];
    alignas(64) Out results[static_cast<size_t>(kBlock)];
    std::array<RowView<T>, N> views;
    for (size_t k = 0; k < N; ++k) {
      if (strides_[k] == 0) {  // one value serves the row
        convert_[k](at[k + 1], 0, reinterpret_cast<char*>(buffers[k]), 0, 1);
        views[k] = {buffers[k], 0};
      } else {
        views[k] = {buffers[k], 1};
      }
    }
    for (int64_t i = 0; i < count; i += kBlock) {
      const int64_t length = std::min(kBlock, count - i);
      for (size_t k = 0; k < N; ++k) {
        const char* from = at[k + 1] + i * strides_[k];
        if (direct_[k] && strides_[k] != 0) {
          views[k].data = reinterpret_cast<const T*>(from);
        } else if (strides_[k] != 0) {
          convert_[k](from, strides_[k], reinterpret_cast<char*>(buffers[k]), sizeof(T), length);
        }
      }
      char* to = at[0] + i * out_stride_;
      Out* result = out_direct_ && !stream_ ? reinterpret_cast<Out*>(to) : results;
      call(kernel, views, result, length, std::make_index_sequence<N>{});
      if (stream_) {
        stream_store(to, results, length * static_cast<int64_t>(sizeof(Out)));
      } else if (!out_direct_) {
        convert_out_(reinterpret_cast<const char*>(results), sizeof(Out), to, out_stride_, length);
      }
    }
    if (stream_) {
      end_of_stream();
    }
  }

  std::array<int64_t, N> strides_{};
  std::array<ConvertRow, N> convert_{};
  std::array<bool, N> direct_{};
  bool all_direct_ = true;
  int64_t out_stride_ = 0;
  ConvertRow convert_out_ = nullptr;
  bool out_direct_ = false;
  bool stream_ = false;
};

}  // namespace detail

/// out = kernel(inputs...), elementwise. The kernel is called as kernel(RowView<T>..., Out* out, int64_t count) on rows
/// of any length; operands of other dtypes than T, and strides other than 0 and 1, reach it through small buffers.
template <class T, class Out, size_t N, class Kernel>
void map_rows(const std::array<const Tensor*, N>& inputs, const Tensor& out, Kernel kernel) {
  const int64_t count = out.numel();
  bool plain = out.is_contiguous() && out.dtype() == dtype_of<Out> && count < kParallelElements;
  std::array<RowView<T>, N> views;
  std::array<const Tensor*, N + 1> tensors;
  tensors[0] = &out;
  for (size_t k = 0; k < N; ++k) {
    plain = plain && inputs[k]->is_contiguous() && inputs[k]->dtype() == dtype_of<T>;
    views[k] = {static_cast<const T*>(inputs[k]->raw()), 1};
    tensors[k + 1] = inputs[k];
  }
  if (count == 0) {
    return;
  }
  if (plain) {
    detail::RowMapper<T, Out, N>::call(kernel, views, static_cast<Out*>(out.mutable_raw()), count,
                                       std::make_index_sequence<N>{});
    return;
  }
  const RowLoop<N + 1> loop(tensors);
  const detail::RowMapper<T, Out, N> mapper(inputs, out, loop);
  loop.run([&](const std::array<char*, N + 1>& at, int64_t length) { mapper.row(at, length, kernel); });
}

// How row kernels read and write T at a time: f32 and f64 in SIMD registers, i64 one by one.

template <class T>
struct Lanes {
  using Pack = Vec<T>;
  static constexpr int64_t kSize = Pack::kSize;
  static Pack load(const T* from) { return Pack::load(from); }
  static Pack load_part(const T* from, int64_t count) { return Pack::load_part(from, count); }
  static Pack broadcast(T value) { return Pack(static_cast<double>(value)); }
  static void store(Pack value, T* to) { value.store(to); }
  static void store_part(Pack value, T* to, int64_t count) { value.store_part(to, count); }
};
template <>
struct Lanes<int64_t> {
  using Pack = int64_t;
  static constexpr int64_t kSize = 1;
  static Pack load(const int64_t* from) { return *from; }
  static Pack load_part(const int64_t* from, int64_t /*count*/) { return *from; }
  static Pack broadcast(int64_t value) { return value; }
  static void store(Pack value, int64_t* to) { *to = value; }
  static void store_part(Pack value, int64_t* to, int64_t /*count*/) { *to = value; }
};

/// out[i] = f(x[i]).
template <class T, class F>
void map_row(F f, RowView<T> x, T* out, int64_t count) {
  using L = Lanes<T>;
  if (x.step == 0) {
    const auto value = f(L::broadcast(*x.data));
    T result[static_cast<size_t>(L::kSize)];
    L::store(value, result);
    std::fill_n(out, count, result[0]);
    return;
  }
  int64_t i = 0;
  for (; i + L::kSize <= count; i += L::kSize) {
    L::store(f(L::load(x.data + i)), out + i);
  }
  if (i < count) {
    L::store_part(f(L::load_part(x.data + i, count - i)), out + i, count - i);
  }
}

/// out[i] = f(a[i], b[i]).
template <class T, class F>
void map_row(F f, RowView<T> a, RowView<T> b, T* out, int64_t count) {
  using L = Lanes<T>;
  if (a.step == 0) {
    const auto value = L::broadcast(*a.data);
    map_row([f, value](auto x) { return f(value, x); }, b, out, count);
    return;
  }
  if (b.step == 0) {
    const auto value = L::broadcast(*b.data);
    map_row([f, value](auto x) { return f(x, value); }, a, out, count);
    return;
  }
  int64_t i = 0;
  for (; i + L::kSize <= count; i += L::kSize) {
    L::store(f(L::load(a.data + i), L::load(b.data + i)), out + i);
  }
  if (i < count) {
    const int64_t rest = count - i;
    L::store_part(f(L::load_part(a.data + i, rest), L::load_part(b.data + i, rest)), out + i, rest);
  }
}

}  // namespace deltatape::cpu
