// The host twin of device/numbers.h: the C library's functions, and conversions that are bit-exact.
#pragma once

#include <bit>
#include <cmath>

#include "backends/cuda/kda/tile/target.h"
#include "core/dtype.h"

namespace deltatape::cuda::tile {

/// What `.ftz` makes of a subnormal number.
inline float flushed(float x) { return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.0F, x) : x; }

inline float ex2(float x) { return flushed(std::exp2(flushed(x))); }
inline float rcp(float x) { return flushed(1.0F / flushed(x)); }
inline float rsqrt(float x) { return flushed(1.0F / std::sqrt(flushed(x))); }
inline float lg2(float x) { return std::log2(flushed(x)); }

inline uint16_t bf16_bits(float x) { return BFloat16::round_bits(x); }
inline uint32_t pack_bf16(float low, float high) {
  return static_cast<uint32_t>(bf16_bits(low)) | (static_cast<uint32_t>(bf16_bits(high)) << 16);
}
inline float f16_to_float(uint16_t x) { return Float16::widen(x); }
inline uint16_t f16_bits(float x) { return Float16::round_bits(x); }

inline uint32_t tf32_bits(float x) {
  const auto word = std::bit_cast<uint32_t>(x);
  if ((word & 0x7f800000U) == 0x7f800000U) {
    return word;
  }
  return (word + 0x1000U) & 0xffffe000U;
}

}  // namespace deltatape::cuda::tile
