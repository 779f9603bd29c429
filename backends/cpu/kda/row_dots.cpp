#include "backends/cpu/kda/row_dots.h"

#include "backends/cpu/kda/lane_sums.h"
#include "backends/cpu/kda/tile.h"

namespace deltatape::cpu::kda {
namespace {

template <class T, int Rows, int Columns>
void block(int64_t length, const T* x, int64_t ldx, const T* y, int64_t ldy, T* out, int64_t ldo) {
  using V = Vec<T>;
  std::array<V, static_cast<size_t>(Rows * Columns)> sums;
  sums.fill(V(0.0));
  for (int64_t c = 0; c < length; c += V::kSize) {
    std::array<V, static_cast<size_t>(Columns)> right;
    unrolled<Columns>([&](auto j) { right[j] = V::load(y + j * ldy + c); });
    unrolled<Rows>([&](auto i) {
      const V left = V::load(x + i * ldx + c);
      unrolled<Columns>([&](auto j) { sums[i * Columns + j] = fma(left, right[j], sums[i * Columns + j]); });
    });
  }
  T totals[Rows * Columns];
  lane_sums(sums, totals);
  unrolled<Rows>([&](auto i) { std::copy_n(totals + i * Columns, Columns, out + i * ldo); });
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

template <class T>
void dots_of_rows(int64_t rows, int64_t length, const T* x, const T* y, int64_t ld, T* out) {
  using V = Vec<T>;
  constexpr int64_t kTogether = 16;
  for (int64_t first = 0; first < rows; first += kTogether) {
    std::array<V, kTogether> sums;
    for (int64_t i = 0; i < kTogether; ++i) {
      const int64_t row = std::min(first + i, rows - 1) * ld;
      V sum[2] = {V(0.0), V(0.0)};
      int64_t c = 0;
      for (; c + 2 * V::kSize <= length; c += 2 * V::kSize) {
        sum[0] = fma(V::load(x + row + c), V::load(y + row + c), sum[0]);
        sum[1] = fma(V::load(x + row + c + V::kSize), V::load(y + row + c + V::kSize), sum[1]);
      }
      if (c < length) {
        sum[0] = fma(V::load(x + row + c), V::load(y + row + c), sum[0]);
      }
      sums[static_cast<size_t>(i)] = sum[0] + sum[1];
    }
    T totals[kTogether];
    lane_sums(sums, totals);
    std::copy_n(totals, std::min(kTogether, rows - first), out + first);
  }
}

template void dots_of_rows(int64_t, int64_t, const float*, const float*, int64_t, float*);
template void dots_of_rows(int64_t, int64_t, const double*, const double*, int64_t, double*);
template void row_dots(int64_t, int64_t, int64_t, const float*, int64_t, const float*, int64_t, float*, int64_t);
template void row_dots(int64_t, int64_t, int64_t, const double*, int64_t, const double*, int64_t, double*, int64_t);

}  // namespace deltatape::cpu::kda
