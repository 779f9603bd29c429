#include "backends/cpu/kda/row_dots.h"

#include <array>

#include "backends/cpu/kda/tile.h"

namespace deltatape::cpu::kda {
namespace {

/// The sums of the lanes of `Count` registers, into consecutive places: folded to 128 bits, then four (two in f64) at
/// a time by zips.
template <class T, size_t Count>
[[gnu::always_inline]] inline void lane_sums(const std::array<Vec<T>, Count>& x, T* out) {
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
  constexpr size_t kWhole = Count / static_cast<size_t>(kPart) * static_cast<size_t>(kPart);
  for (size_t i = 0; i < kWhole; i += static_cast<size_t>(kPart)) {
    if constexpr (kPart == 4) {
      const Part a = folded(i);
      const Part b = folded(i + 1);
      const Part c = folded(i + 2);
      const Part d = folded(i + 3);
      const Part ac = xsimd::zip_lo(a, c) + xsimd::zip_hi(a, c);
      const Part bd = xsimd::zip_lo(b, d) + xsimd::zip_hi(b, d);
      (xsimd::zip_lo(ac, bd) + xsimd::zip_hi(ac, bd)).store_unaligned(out + i);
    } else {
      const Part a = folded(i);
      const Part b = folded(i + 1);
      (xsimd::zip_lo(a, b) + xsimd::zip_hi(a, b)).store_unaligned(out + i);
    }
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

template <class T, int Rows, int Columns>
void block(int64_t length, const T* x, int64_t ldx, const T* y, int64_t ldy, T* out, int64_t ldo) {
  using V = Vec<T>;
  std::array<V, static_cast<size_t>(Rows * Columns)> sums;
  sums.fill(V(0.0));
  for (int64_t c = 0; c < length; c += V::kSize) {
    std::array<V, static_cast<size_t>(Columns)> right;
    for (int64_t j = 0; j < Columns; ++j) {
      right[static_cast<size_t>(j)] = V::load(y + j * ldy + c);
    }
    for (int64_t i = 0; i < Rows; ++i) {
      const V left = V::load(x + i * ldx + c);
      for (int64_t j = 0; j < Columns; ++j) {
        V& sum = sums[static_cast<size_t>(i * Columns + j)];
        sum = fma(left, right[static_cast<size_t>(j)], sum);
      }
    }
  }
  T totals[Rows * Columns];
  lane_sums(sums, totals);
  for (int64_t i = 0; i < Rows; ++i) {
    for (int64_t j = 0; j < Columns; ++j) {
      out[i * ldo + j] = totals[i * Columns + j];
    }
  }
}

template <class T, int Rows>
void row_block(int64_t n, int64_t length, const T* x, int64_t ldx, const T* y, int64_t ldy, T* out, int64_t ldo) {
  int64_t j = 0;
  for (; j + 4 <= n; j += 4) {
    block<T, Rows, 4>(length, x, ldx, y + j * ldy, ldy, out + j, ldo);
  }
  for (; j < n; ++j) {
    block<T, Rows, 1>(length, x, ldx, y + j * ldy, ldy, out + j, ldo);
  }
}

}  // namespace

template <class T>
void row_dots(int64_t m, int64_t n, int64_t length, const T* x, int64_t ldx, const T* y, int64_t ldy, T* out,
              int64_t ldo) {
  int64_t i = 0;
  for (; i + 4 <= m; i += 4) {
    row_block<T, 4>(n, length, x + i * ldx, ldx, y, ldy, out + i * ldo, ldo);
  }
  for (; i < m; ++i) {
    row_block<T, 1>(n, length, x + i * ldx, ldx, y, ldy, out + i * ldo, ldo);
  }
}

template void row_dots(int64_t, int64_t, int64_t, const float*, int64_t, const float*, int64_t, float*, int64_t);
template void row_dots(int64_t, int64_t, int64_t, const double*, int64_t, const double*, int64_t, double*, int64_t);

}  // namespace deltatape::cpu::kda
