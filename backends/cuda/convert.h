// Conversion between any two dtypes, as every backend has it.
#pragma once

#include <limits>
#include <type_traits>

#include "backends/cuda/element.h"
#include "backends/cuda/hd.h"

namespace deltatape::cuda {

/// Floating point to integer cuts the fraction off, saturates, and makes 0 of NaN; anything to bool is `!= 0`; to bf16
/// and f16 it goes through f32.
template <class To, class From>
DT_HD inline To convert(From value) {
  constexpr bool kFromHalf = std::is_same_v<From, BFloat16> || std::is_same_v<From, Float16>;
  constexpr bool kToHalf = std::is_same_v<To, BFloat16> || std::is_same_v<To, Float16>;
  if constexpr (std::is_same_v<To, From>) {
    return value;
  } else if constexpr (kFromHalf) {
    return convert<To>(widen(value));
  } else if constexpr (std::is_same_v<To, bool>) {
    return value != From{0};
  } else if constexpr (kToHalf) {
    return narrow<To>(static_cast<float>(value));
  } else if constexpr (std::is_floating_point_v<From> && std::is_integral_v<To>) {
    // The upper limit itself rounds up to the first number that does not fit.
    constexpr auto kLow = static_cast<From>(std::numeric_limits<To>::min());
    constexpr auto kHigh = static_cast<From>(std::numeric_limits<To>::max());
    if (!(value >= kLow)) {
      return value != value ? To{0} : std::numeric_limits<To>::min();
    }
    return value >= kHigh ? std::numeric_limits<To>::max() : static_cast<To>(value);
  } else {
    return static_cast<To>(value);
  }
}

}  // namespace deltatape::cuda
