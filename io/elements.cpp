#include "io/elements.h"

#include <fmt/ranges.h>

#include <cstring>

namespace deltatape::io {
namespace {

// Copies elements at any strides (in elements) into a dense row-major block.
void gather(const char* from, const Shape& shape, const Strides& strides, size_t element_bytes, char* to) {
  const int64_t count = shape.numel();
  Shape index = Shape::filled(shape.rank(), 0);
  int64_t offset = 0;
  for (int64_t i = 0; i < count; ++i) {
    std::memcpy(to + i * static_cast<int64_t>(element_bytes), from + offset * static_cast<int64_t>(element_bytes),
                element_bytes);
    for (int d = shape.rank() - 1; d >= 0; --d) {
      offset += strides[d];
      if (++index[d] < shape[d]) {
        break;
      }
      offset -= strides[d] * shape[d];
      index[d] = 0;
    }
  }
}

}  // namespace

int64_t checked_bytes(std::string_view function, std::string_view file, const std::vector<int64_t>& sizes,
                      size_t element_bytes) {
  // Zeros come last, so that a product with one among them cannot hide an overflow.
  auto bytes = static_cast<int64_t>(element_bytes);
  bool empty = false;
  for (const int64_t size : sizes) {
    empty = empty || size == 0;
    if (size != 0) {
      check(!__builtin_mul_overflow(bytes, size, &bytes), function,
            "{}: the shape [{}] has more elements than memory can hold", file, fmt::join(sizes, ", "));
    }
  }
  return empty ? 0 : bytes;
}

Tensor dense_on_host(std::string_view function, const Tensor& tensor) {
  check(tensor.defined(), function, "tensor is undefined");
  check(tensor.device().is_cpu(), function, "tensor is on {}, expected cpu", tensor.device());
  if (tensor.is_contiguous()) {
    return tensor;
  }
  Tensor dense = empty(tensor.shape(), tensor.dtype());
  gather(static_cast<const char*>(tensor.raw()), tensor.shape(), tensor.strides(), size_of(tensor.dtype()),
         static_cast<char*>(dense.mutable_raw()));
  return dense;
}

void from_column_major(const void* elements, const Tensor& out) {
  Strides strides = Strides::filled(out.rank(), 1);
  for (int d = 1; d < out.rank(); ++d) {
    strides[d] = strides[d - 1] * out.shape()[d - 1];
  }
  gather(static_cast<const char*>(elements), out.shape(), strides, size_of(out.dtype()),
         static_cast<char*>(out.mutable_raw()));
}

void normalize_bools(const Tensor& tensor) {
  auto* bytes = static_cast<unsigned char*>(tensor.mutable_raw());
  for (int64_t i = 0; i < tensor.numel(); ++i) {
    bytes[i] = bytes[i] != 0 ? 1 : 0;
  }
}

}  // namespace deltatape::io
