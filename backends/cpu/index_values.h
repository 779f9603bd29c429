// Index tensors: i64 or i32, checked before anything is written.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "backends/cpu/strided_loop.h"
#include "core/error.h"
#include "core/tensor.h"

namespace deltatape::cpu {

/// The values of `index` in row-major order. Throws Error naming `function` when one is not in [0, size).
inline std::vector<int64_t> checked_indices(std::string_view function, const Tensor& index, int64_t size) {
  std::vector<int64_t> values = index.to_vector<int64_t>();
  for (size_t i = 0; i < values.size(); ++i) {
    const int64_t value = values[i];
    if (value < 0 || value >= size) [[unlikely]] {
      check(size > 0, function, "index is {} at position {}, but there are no entries along dim", value, i);
      fail(function, "index is {} at position {}, expected 0 to {}", value, i, size - 1);
    }
  }
  return values;
}

}  // namespace deltatape::cpu
