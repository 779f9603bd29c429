// Random numbers from the four words of one Philox element: the formulas that every device follows.
#pragma once

#include <array>
#include <cstdint>
#include <type_traits>

#include "core/dtype.h"

namespace deltatape {

using PhiloxWords = std::array<uint32_t, 4>;

/// The first two (`half` 0) or last two (1) words as one number, the first word low.
constexpr uint64_t philox_u64(const PhiloxWords& words, int half = 0) {
  return half == 0 ? words[0] | (uint64_t{words[1]} << 32) : words[2] | (uint64_t{words[3]} << 32);
}

/// Uniform in [0, 1): as many leading bits as the type holds without rounding, so that 1 is never reached
/// (f32 24 bits, f64 53, bf16 8, f16 11). As the type, or as f32 for the 16-bit types, which hold it exactly.
template <class T>
constexpr auto uniform_value(const PhiloxWords& words) {
  if constexpr (std::is_same_v<T, double>) {
    return static_cast<double>(philox_u64(words) >> 11) * 0x1p-53;
  } else if constexpr (std::is_same_v<T, float>) {
    return static_cast<float>(words[0] >> 8) * 0x1p-24F;
  } else if constexpr (std::is_same_v<T, BFloat16>) {
    return static_cast<float>(words[0] >> 24) * 0x1p-8F;
  } else {
    static_assert(std::is_same_v<T, Float16>);
    return static_cast<float>(words[0] >> 21) * 0x1p-11F;
  }
}
template <class T>
T uniform_number(const PhiloxWords& words) {
  return T(uniform_value<T>(words));
}

/// The upper 64 bits of the 128-bit product.
constexpr uint64_t multiply_high(uint64_t a, uint64_t b) {
  const uint64_t a_low = a & 0xffffffffU;
  const uint64_t a_high = a >> 32;
  const uint64_t b_low = b & 0xffffffffU;
  const uint64_t b_high = b >> 32;
  const uint64_t middle = a_high * b_low + ((a_low * b_low) >> 32);
  const uint64_t carried = a_low * b_high + (middle & 0xffffffffU);
  return a_high * b_high + (middle >> 32) + (carried >> 32);
}

/// Uniform integer in [low, low + range), range > 0: floor(range * u64 / 2^64). The probabilities of two values differ
/// by at most range / 2^64 of themselves: less than 2^-40 for a range below 2^24.
constexpr int64_t integer_below(const PhiloxWords& words, int64_t low, uint64_t range) {
  return static_cast<int64_t>(static_cast<uint64_t>(low) + multiply_high(philox_u64(words), range));
}

/// The two uniform numbers of the Box-Muller transform, sqrt(-2 ln first) cos(2 pi second): first in (0, 1], second
/// in [0, 1). The transform is computed in f64 and then rounded, so that devices agree.
struct BoxMullerPair {
  double first;
  double second;
};
constexpr BoxMullerPair box_muller_pair(const PhiloxWords& words) {
  return {static_cast<double>((philox_u64(words, 0) >> 11) + 1) * 0x1p-53,
          static_cast<double>(philox_u64(words, 1) >> 11) * 0x1p-53};
}

}  // namespace deltatape
