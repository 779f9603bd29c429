// Vec<T>: one SIMD register of f32 or f64. It is xsimd's batch, with its mathematical functions put right where those
// of xsimd 8.1 lose digits or go wrong at the ends of the range. elementwise_functions.h works on it.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <xsimd/xsimd.hpp>

#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace deltatape::cpu {

template <class T>
struct Vec {
  using Batch = xsimd::batch<T>;
  using Mask = xsimd::batch_bool<T>;
  static constexpr int64_t kSize = static_cast<int64_t>(Batch::size);

  Batch batch;

  Vec() = default;
  explicit Vec(Batch value) : batch(value) {}
  /// All lanes equal to `value` rounded to T.
  explicit Vec(double value) : batch(static_cast<T>(value)) {}

  static Vec load(const T* from) { return Vec(Batch::load_unaligned(from)); }
  void store(T* to) const { batch.store_unaligned(to); }
  /// The first `count` < kSize lanes; the others are 0. The same functions then run on rests of rows, so that a result
  /// does not depend on where in a tensor its element stands.
  static Vec load_part(const T* from, int64_t count) {
#ifdef __AVX512F__
    if constexpr (std::is_same_v<T, float>) {
      return Vec(Batch(_mm512_maskz_loadu_ps(static_cast<__mmask16>((1U << count) - 1U), from)));
    } else {
      return Vec(Batch(_mm512_maskz_loadu_pd(static_cast<__mmask8>((1U << count) - 1U), from)));
    }
#else
    alignas(64) T lanes[static_cast<size_t>(kSize)] = {};
    std::memcpy(lanes, from, static_cast<size_t>(count) * sizeof(T));
    return Vec(Batch::load_aligned(lanes));
#endif
  }
  void store_part(T* to, int64_t count) const {
#ifdef __AVX512F__
    if constexpr (std::is_same_v<T, float>) {
      _mm512_mask_storeu_ps(to, static_cast<__mmask16>((1U << count) - 1U), batch);
    } else {
      _mm512_mask_storeu_pd(to, static_cast<__mmask8>((1U << count) - 1U), batch);
    }
#else
    alignas(64) T lanes[static_cast<size_t>(kSize)];
    batch.store_aligned(lanes);
    std::memcpy(to, lanes, static_cast<size_t>(count) * sizeof(T));
#endif
  }

  friend Vec operator+(Vec a, Vec b) { return Vec(a.batch + b.batch); }
  friend Vec operator-(Vec a, Vec b) { return Vec(a.batch - b.batch); }
  friend Vec operator*(Vec a, Vec b) { return Vec(a.batch * b.batch); }
  friend Vec operator/(Vec a, Vec b) { return Vec(a.batch / b.batch); }
  /// a b + c, rounded once.
  friend Vec fma(Vec a, Vec b, Vec c) { return Vec(xsimd::fma(a.batch, b.batch, c.batch)); }
  /// c - a b, rounded once.
  friend Vec fnma(Vec a, Vec b, Vec c) { return Vec(xsimd::fnma(a.batch, b.batch, c.batch)); }
  friend Vec operator-(Vec a) { return Vec(Batch(T{-0.0}) - a.batch); }  // xsimd's own makes 0 of 0, not -0
  friend Mask operator==(Vec a, Vec b) { return a.batch == b.batch; }
  friend Mask operator!=(Vec a, Vec b) { return !(a.batch == b.batch); }  // xsimd's own has NaN equal to all
  friend Mask operator<(Vec a, Vec b) { return a.batch < b.batch; }
  friend Mask operator<=(Vec a, Vec b) { return a.batch <= b.batch; }
  friend Mask operator>(Vec a, Vec b) { return a.batch > b.batch; }
  friend Mask operator>=(Vec a, Vec b) { return a.batch >= b.batch; }
  friend Vec select(Mask condition, Vec a, Vec b) { return Vec(xsimd::select(condition, a.batch, b.batch)); }
  friend Vec abs(Vec x) { return Vec(xsimd::abs(x.batch)); }
  friend Vec sqrt(Vec x) { return Vec(xsimd::sqrt(x.batch)); }
  friend Vec floor(Vec x) { return Vec(xsimd::floor(x.batch)); }
  friend Vec ceil(Vec x) { return Vec(xsimd::ceil(x.batch)); }
  friend Vec round_to_even(Vec x) { return Vec(xsimd::nearbyint(x.batch)); }
  friend Vec sin(Vec x) { return Vec(xsimd::sin(x.batch)); }
  friend Vec cos(Vec x) { return Vec(xsimd::cos(x.batch)); }
  friend Vec tanh(Vec x) { return Vec(xsimd::tanh(x.batch)); }
};

/// f(lane) for every lane, with the standard library's functions.
template <class T, class F>
Vec<T> for_each_lane(Vec<T> x, F f) {
  alignas(64) T lanes[static_cast<size_t>(Vec<T>::kSize)];
  x.batch.store_aligned(lanes);
  for (T& lane : lanes) {
    lane = f(lane);
  }
  return Vec<T>::load(lanes);
}

namespace detail {
/// Where |x| makes exp(x) or exp2(x) leave the range of normal numbers: xsimd gives infinity a little too early, and 0
/// for subnormal results. Beyond `end` the result is 0 or infinity.
template <class T>
struct ExpRange;
template <>
struct ExpRange<float> {
  static constexpr double exp_begin = 87.0, exp_end = 104.0, exp2_begin = 125.5, exp2_end = 150.5;
};
template <>
struct ExpRange<double> {
  static constexpr double exp_begin = 707.0, exp_end = 746.0, exp2_begin = 1021.0, exp2_end = 1076.0;
};

/// y = f(x), an exponential, but f(x / 2)^2 where begin < |x| < end. Out of line: it is rare, and its callers are hot.
template <class T, class F>
[[gnu::noinline]] Vec<T> mend_ends(Vec<T> x, Vec<T> y, double begin, double end, F f) {
  const Vec<T> size = abs(x);
  const auto at_the_end = (size > Vec<T>(begin)) & (size < Vec<T>(end));
  if (!xsimd::any(at_the_end)) {  // just infinite, as masked elements are
    return y;
  }
  const Vec<T> half = f(x * Vec<T>(0.5));
  return select(at_the_end, half * half, y);
}
}  // namespace detail

#if defined(__AVX512F__) && defined(__AVX512DQ__)
/// exp in f32, within 1 ulp: 2^power times Cephes' polynomial for the rest. The scaling instruction does the ends of
/// the range, infinities and NaN, as long as the polynomial is positive: far outside the rest is only kept small.
[[gnu::always_inline]] inline Vec<float> exp_avx512(Vec<float> x) {
  const auto constant = [](float value) { return _mm512_set1_ps(value); };
  const __m512 power = _mm512_roundscale_ps(_mm512_mul_ps(x.batch, constant(1.442695041F)), _MM_FROUND_TO_NEAREST_INT);
  __m512 rest = _mm512_fnmadd_ps(power, constant(0.693359375F), x.batch);
  rest = _mm512_fnmadd_ps(power, constant(-2.12194440e-4F), rest);
  rest = _mm512_range_ps(rest, constant(1.0F), 2);  // the smaller in size, with the sign of the first
  __m512 sum = constant(1.9875691500e-4F);
  for (const float coefficient : {1.3981999507e-3F, 8.3334519073e-3F, 4.1665795894e-2F, 1.6666665459e-1F, 0.5F}) {
    sum = _mm512_fmadd_ps(sum, rest, constant(coefficient));
  }
  sum = _mm512_add_ps(_mm512_fmadd_ps(_mm512_mul_ps(rest, rest), sum, rest), constant(1.0F));
  return Vec<float>(Vec<float>::Batch(_mm512_scalef_ps(sum, power)));
}
#endif

template <class T>
[[gnu::always_inline]] inline Vec<T> exp(Vec<T> x) {
#if defined(__AVX512F__) && defined(__AVX512DQ__)
  if constexpr (std::is_same_v<T, float>) {
    return exp_avx512(x);
  }
#endif
  using Range = detail::ExpRange<T>;
  const Vec<T> y(xsimd::exp(x.batch));
  if (xsimd::any(abs(x) > Vec<T>(Range::exp_begin))) [[unlikely]] {
    return detail::mend_ends(x, y, Range::exp_begin, Range::exp_end,
                             [](Vec<T> value) { return Vec<T>(xsimd::exp(value.batch)); });
  }
  return y;
}

template <class T>
[[gnu::always_inline]] inline Vec<T> exp2(Vec<T> x) {
  using Range = detail::ExpRange<T>;
  const Vec<T> y(xsimd::exp2(x.batch));
  if (xsimd::any(abs(x) > Vec<T>(Range::exp2_begin))) [[unlikely]] {
    return detail::mend_ends(x, y, Range::exp2_begin, Range::exp2_end,
                             [](Vec<T> value) { return Vec<T>(xsimd::exp2(value.batch)); });
  }
  return y;
}

template <class T>
[[gnu::always_inline]] inline Vec<T> expm1(Vec<T> x) {
  const auto y = select(x == Vec<T>(0.0), x, Vec<T>(xsimd::expm1(x.batch)));  // xsimd makes 0 of -0
  const auto large = x > Vec<T>(detail::ExpRange<T>::exp_begin);
  if (xsimd::any(large)) [[unlikely]] {
    return select(large, exp(x), y);
  }
  return y;
}

/// xsimd's logarithms of subnormal numbers are wrong in f64: those lanes are computed one by one.
template <class T, class F>
[[gnu::noinline]] Vec<T> mend_subnormals(Vec<T> x, Vec<T> y, F f) {
  const auto subnormal = (x > Vec<T>(0.0)) & (x < Vec<T>(static_cast<double>(std::numeric_limits<T>::min())));
  return xsimd::any(subnormal) ? select(subnormal, for_each_lane(x, f), y) : y;
}
template <class T>
bool any_below_normal(Vec<T> x) {
  return xsimd::any(x < Vec<T>(static_cast<double>(std::numeric_limits<T>::min())));
}
template <class T>
[[gnu::always_inline]] inline Vec<T> log(Vec<T> x) {
  const Vec<T> y(xsimd::log(x.batch));
  if (any_below_normal(x)) [[unlikely]] {
    return mend_subnormals(x, y, [](T lane) { return std::log(lane); });
  }
  return y;
}
template <class T>
[[gnu::always_inline]] inline Vec<T> log2(Vec<T> x) {
  const Vec<T> y(xsimd::log2(x.batch));
  if (any_below_normal(x)) [[unlikely]] {
    return mend_subnormals(x, y, [](T lane) { return std::log2(lane); });
  }
  return y;
}
template <class T>
[[gnu::always_inline]] inline Vec<T> log1p(Vec<T> x) {
  return select(x == Vec<T>(0.0), x, Vec<T>(xsimd::log1p(x.batch)));  // xsimd makes 0 of -0
}

/// log1p(x) for x in [0, 1], within 1.5 ulp in f32: a polynomial (fitted in Chebyshev points), a good deal quicker.
template <class T>
[[gnu::always_inline]] inline Vec<T> log1p_of_fraction(Vec<T> x) {
  if constexpr (std::is_same_v<T, float>) {
    Vec<T> sum(-0.0031760571);
    for (const double coefficient :
         {0.019542527, -0.056373614, 0.10543624, -0.15269667, 0.19663274, -0.24951616, 0.33329711, -0.49999893}) {
      sum = fma(sum, x, Vec<T>(coefficient));
    }
    return fma(x * x, sum, x);
  } else {
    return log1p(x);
  }
}

/// xsimd's erf and erfc are single-precision polynomials at heart: 70 and 10^5 ulp off in f64.
template <class T>
Vec<T> erf(Vec<T> x) {
  if constexpr (std::is_same_v<T, double>) {
    return for_each_lane(x, [](T lane) { return std::erf(lane); });
  } else {
    return Vec<T>(xsimd::erf(x.batch));
  }
}
template <class T>
Vec<T> erfc(Vec<T> x) {
  if constexpr (std::is_same_v<T, double>) {
    return for_each_lane(x, [](T lane) { return std::erfc(lane); });
  } else {
    return abs(Vec<T>(xsimd::erfc(x.batch)));  // xsimd's has -0 for large x
  }
}

/// xsimd's pow is exp(y log x), 70 ulp off, and wrong for infinities.
template <class T>
Vec<T> pow(Vec<T> x, Vec<T> y) {
  alignas(64) T bases[static_cast<size_t>(Vec<T>::kSize)];
  alignas(64) T exponents[static_cast<size_t>(Vec<T>::kSize)];
  x.batch.store_aligned(bases);
  y.batch.store_aligned(exponents);
  for (size_t i = 0; i < static_cast<size_t>(Vec<T>::kSize); ++i) {
    bases[i] = std::pow(bases[i], exponents[i]);
  }
  return Vec<T>::load(bases);
}

/// The lanes' sum, in f64: lanes that are 4 apart first, then these four in pairs.
template <class T>
double sum_of_lanes(Vec<T> x) {
  alignas(64) T lanes[static_cast<size_t>(Vec<T>::kSize)];
  x.batch.store_aligned(lanes);
  double sums[4] = {};
  for (size_t i = 0; i < static_cast<size_t>(Vec<T>::kSize); ++i) {
    sums[i % 4] += static_cast<double>(lanes[i]);
  }
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

}  // namespace deltatape::cpu
