// Sums of the lanes of several registers at once: lanes are added while registers are interleaved, so that no register
// is summed alone.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "backends/cpu/vec.h"

namespace deltatape::cpu::kda {

namespace detail {

/// Of four registers of 128 bits: the four sums, in order. f64: of two.
template <class Part>
[[gnu::always_inline]] inline Part sums_of_parts(const Part* x) {
  if constexpr (Part::size == 4) {
    const Part ac = xsimd::zip_lo(x[0], x[2]) + xsimd::zip_hi(x[0], x[2]);
    const Part bd = xsimd::zip_lo(x[1], x[3]) + xsimd::zip_hi(x[1], x[3]);
    return xsimd::zip_lo(ac, bd) + xsimd::zip_hi(ac, bd);
  } else {
    return xsimd::zip_lo(x[0], x[1]) + xsimd::zip_hi(x[0], x[1]);
  }
}

#ifdef __AVX512F__
/// In each 128-bit part: the sums of that part of four registers.
[[gnu::always_inline]] inline __m512 sums_of_quarters(__m512 a, __m512 b, __m512 c, __m512 d) {
  const __m512 ac = _mm512_add_ps(_mm512_unpacklo_ps(a, c), _mm512_unpackhi_ps(a, c));
  const __m512 bd = _mm512_add_ps(_mm512_unpacklo_ps(b, d), _mm512_unpackhi_ps(b, d));
  return _mm512_add_ps(_mm512_unpacklo_ps(ac, bd), _mm512_unpackhi_ps(ac, bd));
}
/// Neighbouring quarters of x, then of y, added.
[[gnu::always_inline]] inline __m512 add_neighbours(__m512 x, __m512 y) {
  return _mm512_add_ps(_mm512_shuffle_f32x4(x, y, 0x88), _mm512_shuffle_f32x4(x, y, 0xdd));
}
/// The sums of 16 registers, in order.
[[gnu::always_inline]] inline void sums_of_sixteen(const Vec<float>* x, float* out) {
  const auto four = [x](int i) { return sums_of_quarters(x[i].batch, x[i + 1].batch, x[i + 2].batch, x[i + 3].batch); };
  _mm512_storeu_ps(out, add_neighbours(add_neighbours(four(0), four(4)), add_neighbours(four(8), four(12))));
}
#endif

}  // namespace detail

/// out[i] = the sum of the lanes of x[i]. The order of the sum depends on Count.
template <class T, size_t Count>
[[gnu::always_inline]] inline void lane_sums(const std::array<Vec<T>, Count>& x, T* out) {
#ifdef __AVX512F__
  if constexpr (std::is_same_v<T, float> && Count == 16) {
    detail::sums_of_sixteen(x.data(), out);
    return;
  }
#endif
  constexpr int64_t kSize = Vec<T>::kSize;
  constexpr int64_t kPart = 16 / sizeof(T);
  using Part = xsimd::make_sized_batch_t<T, static_cast<size_t>(kPart)>;
  alignas(64) T lanes[Count * static_cast<size_t>(kSize)];
  for (size_t i = 0; i < Count; ++i) {
    x[i].store(lanes + static_cast<int64_t>(i) * kSize);
  }
  const auto folded = [&lanes](size_t i) {
    const T* row = lanes + static_cast<int64_t>(i) * kSize;
    Part sum = Part::load_aligned(row);
    for (int64_t lane = kPart; lane < kSize; lane += kPart) {
      sum += Part::load_aligned(row + lane);
    }
    return sum;
  };
  constexpr size_t kStep = static_cast<size_t>(kPart);
  constexpr size_t kWhole = Count / kStep * kStep;
  for (size_t i = 0; i < kWhole; i += kStep) {
    Part parts[kStep];
    for (size_t j = 0; j < kStep; ++j) {
      parts[j] = folded(i + j);
    }
    detail::sums_of_parts(parts).store_unaligned(out + i);
  }
  for (size_t i = kWhole; i < Count; ++i) {
    alignas(16) T rest[kPart];
    folded(i).store_aligned(rest);
    if constexpr (kPart == 4) {
      out[i] = (rest[0] + rest[2]) + (rest[1] + rest[3]);
    } else {
      out[i] = rest[0] + rest[1];
    }
  }
}

}  // namespace deltatape::cpu::kda
