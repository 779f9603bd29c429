#include "tests/support/layouts.h"

#include <cstring>

#include "tests/support/reference.h"

namespace deltatape::test {
namespace {

// Sizes of the block that holds the elements, and where in it they are.
struct Placement {
  Shape block;
  Strides strides;
  int64_t offset = 0;
};

Placement place(const Shape& shape, Layout layout) {
  Placement placement{shape, contiguous_strides(shape), 0};
  switch (layout) {
    case Layout::transposed: {
      int64_t stride = 1;
      for (int d = 0; d < shape.rank(); ++d) {
        placement.strides[d] = stride;
        stride *= shape[d];
      }
      break;
    }
    case Layout::stepped:
      for (int64_t& size : placement.block) {
        size *= 2;
      }
      placement.strides = contiguous_strides(placement.block);
      for (int64_t& stride : placement.strides) {
        placement.offset += stride;  // start at the second entry of each dimension
        stride *= 2;
      }
      break;
    case Layout::offset:
      placement.block = {shape.numel() + 1};
      placement.offset = 1;
      break;
    case Layout::padded:
      if (shape.rank() > 0) {
        placement.block[shape.rank() - 1] += 3;
        placement.strides = contiguous_strides(placement.block);
        placement.offset = 2;
      }
      break;
  }
  return placement;
}

}  // namespace

std::string_view to_string(Layout layout) {
  switch (layout) {
    case Layout::transposed:
      return "transposed";
    case Layout::stepped:
      return "stepped";
    case Layout::offset:
      return "offset";
    case Layout::padded:
      return "padded";
  }
  return "?";
}

Tensor with_layout(const Tensor& x, Layout layout) {
  const Placement placement = place(x.shape(), layout);
  Tensor block = empty(placement.block, x.options());
  auto* bytes = static_cast<char*>(block.mutable_raw());
  const size_t size = size_of(x.dtype());
  // All bits set: NaN, or -1, which no index may be.
  std::memset(bytes, x.dtype() == DType::boolean ? 1 : 0xff, static_cast<size_t>(block.numel()) * size);
  const Tensor view = block.as_view(x.shape(), placement.strides, placement.offset);
  for_each_index(x.shape(), [&](const Shape& index) {
    int64_t from = x.offset();
    int64_t to = placement.offset;
    for (int d = 0; d < index.rank(); ++d) {
      from += index[d] * x.strides()[d];
      to += index[d] * placement.strides[d];
    }
    const auto* source = static_cast<const char*>(x.storage()->data());
    std::memcpy(bytes + static_cast<size_t>(to) * size, source + static_cast<size_t>(from) * size, size);
  });
  return view;
}

Tensor repeated_along(const Tensor& x, int dim) {
  Strides strides = x.strides();
  strides[dim] = 0;
  return x.as_view(x.shape(), strides, x.offset());
}

Tensor dense_copy(const Tensor& x) { return to_tensor(to_array(x), x.dtype()); }

}  // namespace deltatape::test
