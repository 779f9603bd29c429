// Element types, their conversion to what kernels compute in, and approximate functions.
#pragma once

#include <bit>
#include <cmath>

#include "backends/cuda/kda/tile/target.h"
#include "core/dtype.h"

#ifdef __CUDACC__
#include "backends/cuda/kda/tile/device/numbers.h"
#else
#include "backends/cuda/kda/tile/host/numbers.h"
#endif

namespace deltatape::cuda::tile {

/// What a kernel computes in: f32 for the 16-bit types, otherwise the type itself.
template <class T>
struct Computed {
  using type = T;
};
template <>
struct Computed<BFloat16> {
  using type = float;
};
template <>
struct Computed<Float16> {
  using type = float;
};
template <class T>
using computed = typename Computed<std::remove_const_t<T>>::type;

/// From memory to registers.
template <class T>
DT_DEVICE computed<T> widen(T x) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    return std::bit_cast<float>(static_cast<uint32_t>(x.bits) << 16);
  } else if constexpr (std::is_same_v<T, Float16>) {
    return f16_to_float(x.bits);
  } else {
    return x;
  }
}

/// From registers to memory, rounded to nearest even.
template <class T>
DT_DEVICE T narrow(computed<T> x) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    T y;
    y.bits = bf16_bits(x);
    return y;
  } else if constexpr (std::is_same_v<T, Float16>) {
    T y;
    y.bits = f16_bits(x);
    return y;
  } else {
    return x;
  }
}

/// x rounded to bf16.
DT_DEVICE float round_bf16(float x) { return widen(narrow<BFloat16>(x)); }

/// Two values as one register of bf16, the first in the lower half.
DT_DEVICE float low_bf16(uint32_t pair) { return std::bit_cast<float>(pair << 16); }
DT_DEVICE float high_bf16(uint32_t pair) { return std::bit_cast<float>(pair & 0xffff0000U); }

inline constexpr float kLog2E = 1.4426950408889634F;
inline constexpr float kLn2 = 0.6931471805599453F;

/// 1 / (1 + exp(-x)), from approximate parts; exact 0 and 1 far out.
DT_DEVICE float sigmoid(float x) { return rcp(1.0F + ex2(-kLog2E * x)); }

/// log(1 + exp(x)), from accurate parts.
DT_DEVICE float softplus(float x) { return fmaxf(x, 0.0F) + log1pf(expf(-fabsf(x))); }

}  // namespace deltatape::cuda::tile
