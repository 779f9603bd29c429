// Walking the elements of a few tensors of one shape and any strides, in row-major order.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "core/shape.h"

namespace deltatape::cpu {

/// Offsets of element number `position` (row-major) of `shape` in N sets of strides.
template <size_t N>
class StridedPosition {
 public:
  StridedPosition(const Shape& shape, const std::array<const Strides*, N>& strides, int64_t position)
      : shape_(shape), strides_(strides), index_(Shape::filled(shape.rank(), 0)) {
    for (int d = shape.rank() - 1; d >= 0; --d) {
      index_[d] = position % shape[d];
      position /= shape[d];
      for (size_t i = 0; i < N; ++i) {
        offsets_[i] += index_[d] * (*strides[i])[d];
      }
    }
  }

  [[nodiscard]] int64_t offset(size_t i) const { return offsets_[i]; }
  [[nodiscard]] int64_t index(int dim) const { return index_[dim]; }

  /// Moves to the next element; after the last one back to the first.
  void next() {
    for (int d = shape_.rank() - 1; d >= 0; --d) {
      const bool carry = ++index_[d] == shape_[d];
      for (size_t i = 0; i < N; ++i) {
        offsets_[i] += carry ? -(shape_[d] - 1) * (*strides_[i])[d] : (*strides_[i])[d];
      }
      if (!carry) {
        return;
      }
      index_[d] = 0;
    }
  }

 private:
  const Shape& shape_;
  std::array<const Strides*, N> strides_;
  Shape index_;
  std::array<int64_t, N> offsets_{};
};

}  // namespace deltatape::cpu
