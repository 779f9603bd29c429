// Copies that kernels ask for where a layout or a dtype is rare.
#pragma once

#include <cstdint>

#include "backends/backend.h"
#include "core/tensor.h"

namespace deltatape::cuda {

/// `x` itself, or undefined; else a copy in this dtype.
inline Tensor converted(const Tensor& x, DType dtype) {
  if (!x.defined() || x.dtype() == dtype) {
    return x;
  }
  Tensor result = empty(x.shape(), dtype, x.device());
  backend_of(x).copy(x, result);
  return result;
}

/// `x` itself where it is dense and on `device`, or undefined; else such a copy.
inline Tensor dense_on(const Tensor& x, Device device) {
  if (!x.defined() || (x.is_contiguous() && x.device() == device)) {
    return x;
  }
  Tensor result = empty(x.shape(), x.dtype(), device);
  backend_of(device).copy(x, result);
  return result;
}
inline Tensor dense(const Tensor& x) { return x.defined() ? dense_on(x, x.device()) : x; }

/// A dense tensor as one line.
inline Tensor flat(const Tensor& x) { return x.defined() ? x.as_view({x.numel()}, {1}, x.offset()) : x; }

/// A dense tensor as rows of `width`.
inline Tensor as_rows(const Tensor& x, int64_t width) {
  return x.defined() ? x.as_view({width == 0 ? 0 : x.numel() / width, width}, {width, 1}, x.offset()) : x;
}

/// Device memory for `count` values of any type, for as long as the tensor lives.
template <class T>
Tensor scratch(int64_t count, Device device) {
  const auto bytes = count * static_cast<int64_t>(sizeof(T));
  return empty({(bytes + 7) / 8}, DType::i64, device);
}
template <class T>
T* data_of(const Tensor& x) {
  return x.defined() ? static_cast<T*>(x.mutable_raw()) : nullptr;
}

}  // namespace deltatape::cuda
