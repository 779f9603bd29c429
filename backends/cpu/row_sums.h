// Accurate sums over dense rows: short blocks in SIMD registers, their sums in f64.
#pragma once

#include <algorithm>
#include <cstdint>

#include "backends/cpu/vec.h"

namespace deltatape::cpu {

/// Sum of f(x[i]) for i < count, or of f(a[i], b[i]); f maps Vec<T> to Vec<T> and zeros to zero. In a block of 512
/// elements each lane adds up few terms; blocks are added in f64.
template <class T, class F, class... Operands>
double sum_row(F f, int64_t count, const Operands*... operands) {
  using V = Vec<T>;
  constexpr int64_t kBlock = 512;
  constexpr int64_t kStep = 4 * V::kSize;
  double total = 0.0;
  // Unrolled by hand: one register would wait for itself at every addition.
  for (int64_t first = 0; first < count; first += kBlock) {
    const int64_t last = std::min(count, first + kBlock);
    V sums[4] = {V(0.0), V(0.0), V(0.0), V(0.0)};
    int64_t i = first;
    for (; i + kStep <= last; i += kStep) {
      sums[0] = sums[0] + f(V::load(operands + i)...);
      sums[1] = sums[1] + f(V::load(operands + i + V::kSize)...);
      sums[2] = sums[2] + f(V::load(operands + i + 2 * V::kSize)...);
      sums[3] = sums[3] + f(V::load(operands + i + 3 * V::kSize)...);
    }
    for (; i + V::kSize <= last; i += V::kSize) {
      sums[0] = sums[0] + f(V::load(operands + i)...);
    }
    if (i < last) {
      sums[1] = sums[1] + f(V::load_part(operands + i, last - i)...);
    }
    total += sum_of_lanes((sums[0] + sums[1]) + (sums[2] + sums[3]));
  }
  return total;
}

}  // namespace deltatape::cpu
