// The same elements in every memory layout a tensor can have. Made without the library's view ops.
#pragma once

#include <array>
#include <string_view>

#include "core/tensor.h"

namespace deltatape::test {

enum class Layout {
  transposed,  // the first dimension is the fastest
  stepped,     // every second element of each dimension of a larger block
  offset,      // dense, one element into the block: no alignment to rely on
  padded,      // rows dense, gaps between them
};
inline constexpr std::array kLayouts{Layout::transposed, Layout::stepped, Layout::offset, Layout::padded};
std::string_view to_string(Layout layout);

/// A tensor of the same shape, dtype and elements. What lies between its elements is NaN, -1 or true.
Tensor with_layout(const Tensor& x, Layout layout);
/// `x` with all entries along `dim` equal to the first, and stride 0 there.
Tensor repeated_along(const Tensor& x, int dim);
/// A dense copy.
Tensor dense_copy(const Tensor& x);

}  // namespace deltatape::test
