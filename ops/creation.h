// New tensors. None of these functions records anything.
#pragma once

#include "core/tensor.h"

namespace deltatape {

/// A tensor of `shape` whose elements are 0 / 1 / `value`.
Tensor zeros(const Shape& shape, TensorOptions options = {});
Tensor ones(const Shape& shape, TensorOptions options = {});
Tensor full(const Shape& shape, double value, TensorOptions options = {});
/// As zeros, ones, with shape, dtype and device of `like`.
Tensor zeros_like(const Tensor& like);
Tensor ones_like(const Tensor& like);
/// A tensor of rank 0.
Tensor scalar(double value, TensorOptions options = {});
/// [start, start + step, ...) up to but without `stop`, rank 1. Throws Error when step is 0 or points away from stop,
/// and for an element that the dtype does not hold.
Tensor arange(double start, double stop, double step = 1.0, TensorOptions options = {DType::i64, Device::cpu()});
/// 0, 1, ..., count - 1 as i64.
Tensor arange(int64_t count, TensorOptions options = {DType::i64, Device::cpu()});
/// The n x n identity.
Tensor eye(int64_t n, TensorOptions options = {});

}  // namespace deltatape
