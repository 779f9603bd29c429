#include "backends/cuda/rows.h"

#include <array>

#include "backends/backend.h"

namespace deltatape::cuda {

FoundLayout line_layout(const Tensor& x, int dim) {
  FoundLayout found;
  LineLayout& layout = found.layout;
  layout.length = x.shape()[dim];
  layout.stride = layout.length == 1 ? 1 : x.strides()[dim];
  layout.count = 1;
  // The others, innermost first; those that are walked through as one are merged.
  std::array<int64_t, kMaxRank> sizes{};
  std::array<int64_t, kMaxRank> strides{};
  size_t rank = 0;
  for (int d = x.rank() - 1; d >= 0; --d) {
    const int64_t size = x.shape()[d];
    if (d == dim) {
      continue;
    }
    layout.count *= size;
    if (size == 1) {
      continue;
    }
    if (rank > 0 && x.strides()[d] == strides[rank - 1] * sizes[rank - 1]) {
      sizes[rank - 1] *= size;
    } else {
      sizes[rank] = size;
      strides[rank] = x.strides()[d];
      ++rank;
    }
  }
  found.fits = rank <= 2;
  if (rank == 1) {
    layout.outer_stride = strides[0];
  } else if (rank == 2) {
    layout.inner = sizes[0];
    layout.inner_stride = strides[0];
    layout.outer_stride = strides[1];
  }
  const auto size = static_cast<int64_t>(size_of(x.dtype()));
  const auto aligned = [](int64_t bytes) { return bytes % 16 == 0; };
  layout.vector = layout.stride == 1 && aligned(static_cast<int64_t>(reinterpret_cast<uintptr_t>(x.raw()))) &&
                  aligned(layout.outer_stride * size) && aligned(layout.inner_stride * size);
  return found;
}

Tensor with_lines(const Tensor& x, int dim) {
  if (line_layout(x, dim).fits) {
    return x;
  }
  Tensor dense = empty(x.shape(), x.options());
  backend_of(x).copy(x, dense);
  return dense;
}

}  // namespace deltatape::cuda
