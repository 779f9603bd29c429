// Loops whose index is a constant in every turn.
#pragma once

#include <cstdint>
#include <type_traits>
#include <utility>

namespace deltatape::cpu {

/// Calls f with 0, 1, ..., Count - 1 as constants: arrays of registers stay registers only where every index is one.
template <int64_t Count, class F>
[[gnu::always_inline]] inline void unrolled(F f) {
  [&]<int64_t... Index>(std::integer_sequence<int64_t, Index...>) __attribute__((always_inline)) {
    (f(std::integral_constant<int64_t, Index>()), ...);
  }
  (std::make_integer_sequence<int64_t, Count>());
}

}  // namespace deltatape::cpu
