// Elements of dense tensors of any floating dtype, read and written as the type that the kernels compute in.
#pragma once

#include <cstdint>

#include "backends/cuda/element.h"
#include "core/tensor.h"

namespace deltatape::cuda::kda::v0 {

/// A tensor to read; null where it is undefined.
template <class T>
class Reader {
 public:
  explicit Reader(const Tensor& x)
      : data_(x.defined() ? x.raw() : nullptr), dtype_(x.defined() ? x.dtype() : dtype_of<T>) {}

  [[nodiscard]] DT_HD bool present() const { return data_ != nullptr; }
  [[nodiscard]] DT_HD T operator[](int64_t i) const {
    switch (dtype_) {
      case DType::f64:
        return static_cast<T>(static_cast<const double*>(data_)[i]);
      case DType::bf16:
        return static_cast<T>(widen(static_cast<const BFloat16*>(data_)[i]));
      case DType::f16:
        return static_cast<T>(widen(static_cast<const Float16*>(data_)[i]));
      default:
        return static_cast<T>(static_cast<const float*>(data_)[i]);
    }
  }

 private:
  const void* data_;
  DType dtype_;
};

/// A tensor to write; null where nobody wants it.
template <class T>
class Writer {
 public:
  explicit Writer(const Tensor& x)
      : data_(x.defined() ? x.mutable_raw() : nullptr), dtype_(x.defined() ? x.dtype() : dtype_of<T>) {}

  [[nodiscard]] DT_HD bool wanted() const { return data_ != nullptr; }
  DT_HD void put(int64_t i, T value) const {
    switch (dtype_) {
      case DType::f64:
        static_cast<double*>(data_)[i] = static_cast<double>(value);
        return;
      case DType::bf16:
        static_cast<BFloat16*>(data_)[i] = narrow<BFloat16>(static_cast<float>(value));
        return;
      case DType::f16:
        static_cast<Float16*>(data_)[i] = narrow<Float16>(static_cast<float>(value));
        return;
      default:
        static_cast<float*>(data_)[i] = static_cast<float>(value);
    }
  }

 private:
  void* data_;
  DType dtype_;
};

}  // namespace deltatape::cuda::kda::v0
