// Tensors moved to a device as they are, strides and all.
#pragma once

#include "core/tensor.h"
#include "ops/convert.h"
#include "tests/support/op_samples.h"

namespace deltatape::test {

/// `x` on `device`, as a view with the same strides of a copy of all its memory.
inline Tensor moved(const Tensor& x, Device device) {
  if (!x.defined()) {
    return x;
  }
  const auto elements = static_cast<int64_t>(x.storage()->bytes() / size_of(x.dtype()));
  return to(x.detach().as_view({elements}, {1}, 0), device).as_view(x.shape(), x.strides(), x.offset());
}
inline Tensors moved(const Tensors& tensors, Device device) {
  Tensors there;
  for (const Tensor& x : tensors) {
    there.push_back(moved(x, device));
  }
  return there;
}

}  // namespace deltatape::test
