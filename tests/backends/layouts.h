// Tensors with given values in every memory layout a kernel may meet. Uses core alone.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <limits>
#include <type_traits>
#include <utility>

#include "core/generator.h"
#include "core/tensor.h"

namespace deltatape::test {

inline constexpr std::array<DType, 4> kFloatingTypes{DType::f32, DType::f64, DType::bf16, DType::f16};
inline constexpr std::array<DType, 7> kAllTypes{DType::f32, DType::f64, DType::bf16,   DType::f16,
                                                DType::i64, DType::i32, DType::boolean};

/// Largest relative error of one rounding to the type.
inline double epsilon_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return 0x1p-24;
    case DType::f64:
      return 0x1p-53;
    case DType::bf16:
      return 0x1p-8;
    case DType::f16:
      return 0x1p-11;
    default:
      return 0;
  }
}

/// Calls visit(index, offset of the element from the tensor's first).
template <class F>
void for_each_element(const Tensor& tensor, F&& visit) {
  Shape index = Shape::filled(tensor.rank(), 0);
  for (int64_t n = 0; n < tensor.numel(); ++n) {
    int64_t rest = n;
    int64_t offset = 0;
    for (int d = tensor.rank() - 1; d >= 0; --d) {
      index[d] = rest % tensor.shape()[d];
      rest /= tensor.shape()[d];
      offset += index[d] * tensor.strides()[d];
    }
    visit(index, offset);
  }
}

/// Writes value(index), rounded to the tensor's dtype, to every element of any layout.
inline void set_values(const Tensor& tensor, const std::function<double(const Shape&)>& value) {
  visit_dtype(tensor.dtype(), [&](auto tag) {
    using T = decltype(tag);
    auto* data = static_cast<T*>(tensor.mutable_raw());
    for_each_element(tensor, [&](const Shape& index, int64_t offset) {
      if constexpr (std::is_same_v<T, BFloat16> || std::is_same_v<T, Float16>) {
        data[offset] = T(static_cast<float>(value(index)));
      } else {
        data[offset] = static_cast<T>(value(index));
      }
    });
  });
}

enum class Layout : uint8_t {
  dense,
  transposed,  // the last two dimensions swapped in memory
  sliced,      // every second entry of every dimension of a larger block, from the second on
  repeated,    // the first dimension has stride 0
  flat,        // all elements are one (every stride is 0)
};
inline constexpr std::array<Layout, 5> kLayouts{Layout::dense, Layout::transposed, Layout::sliced, Layout::repeated,
                                                Layout::flat};

/// A tensor of undefined elements in this layout; between them lies NaN (1e9 for integers).
inline Tensor in_layout(const Shape& shape, DType dtype, Layout layout) {
  const int rank = shape.rank();
  Shape memory = shape;
  if (layout == Layout::transposed && rank >= 2) {
    std::swap(memory[rank - 1], memory[rank - 2]);
  } else if (layout == Layout::sliced) {
    for (int64_t& size : memory) {
      size = 2 * size + 1;
    }
  }
  const Tensor block = empty(memory, dtype);
  const double poison = is_floating(dtype) ? std::numeric_limits<double>::quiet_NaN() : 1e9;
  set_values(block, [&](const Shape&) { return poison; });
  Strides strides = contiguous_strides(memory);
  int64_t offset = 0;
  if (layout == Layout::transposed && rank >= 2) {
    std::swap(strides[rank - 1], strides[rank - 2]);
  } else if (layout == Layout::sliced) {
    for (int64_t& stride : strides) {
      offset += stride;
      stride *= 2;
    }
  } else if (layout == Layout::repeated && rank >= 1) {
    strides[0] = 0;
  } else if (layout == Layout::flat) {
    strides = Shape::filled(rank, 0);
  }
  return block.as_view(shape, strides, offset);
}

/// Uniform numbers in [low, high) in this layout.
inline Tensor random_values(const Shape& shape, DType dtype, Layout layout, Generator& generator, double low = -1,
                            double high = 1) {
  Tensor tensor = in_layout(shape, dtype, layout);
  set_values(tensor, [&](const Shape&) { return low + (high - low) * generator.next_uniform(); });
  return tensor;
}

}  // namespace deltatape::test
