// xtensor expressions on the memory of host tensors. Needs xtensor's headers; nothing else of the library does.
#pragma once

#include <array>
#include <type_traits>
#include <vector>
#include <xtensor/xadapt.hpp>
#include <xtensor/xnoalias.hpp>

#include "core/tensor.h"

namespace deltatape {

namespace detail {

/// How xtensor wants to be told of a window on memory.
struct XtensorWindow {
  explicit XtensorWindow(const Tensor& tensor) : shape(tensor.shape().begin(), tensor.shape().end()) {
    for (int d = 0; d < tensor.rank(); ++d) {
      const int64_t size = tensor.shape()[d];
      strides.push_back(size == 1 ? 0 : tensor.strides()[d]);  // xtensor marks dimensions of size 1 by stride 0
    }
  }
  std::vector<size_t> shape;
  std::vector<std::ptrdiff_t> strides;
};

}  // namespace detail

/// An xtensor expression that reads the elements of a host tensor of T's dtype, with its shape and strides.
/// The tensor must outlive it. Throws Error when T is not the element type or the memory is not the host's.
template <class T>
auto xtensor_view(const Tensor& tensor) {
  const T* data = tensor.data<T>();
  detail::XtensorWindow window(tensor);
  return xt::adapt(data, static_cast<size_t>(tensor.numel()), xt::no_ownership(), window.shape, window.strides);
}

/// As above, for writing too: `xtensor_view<float>(t) = xt::sin(e)`. Counts as one in-place change of the tensor.
template <class T>
auto xtensor_view(Tensor& tensor) {
  T* data = tensor.mutable_data<T>();
  detail::XtensorWindow window(tensor);
  return xt::adapt(data, static_cast<size_t>(tensor.numel()), xt::no_ownership(), window.shape, window.strides);
}

/// A new host tensor with the values of an xtensor expression. Integers of 4 and 8 bytes become i32 and i64.
template <class E>
Tensor from_xtensor(const E& expression) {
  using Value = std::decay_t<typename E::value_type>;
  using T = std::conditional_t<
      std::is_integral_v<Value> && !std::is_same_v<Value, bool>,
      std::conditional_t<sizeof(Value) == 8, int64_t, std::conditional_t<sizeof(Value) == 4, int32_t, void>>, Value>;
  static_assert(!std::is_void_v<T>, "no dtype for this type of integer");
  Shape shape;
  for (const auto size : expression.shape()) {
    shape.push_back(static_cast<int64_t>(size));
  }
  Tensor out = empty(shape, dtype_of<T>);
  auto view = xtensor_view<T>(out);
  xt::noalias(view) = expression;
  return out;
}

}  // namespace deltatape
