// Tiles of C in registers: the inner loops of all products that BLAS does not do.
#include <algorithm>
#include <array>
#include <cmath>
#include <utility>
#include <xsimd/xsimd.hpp>

#include "backends/cpu/ceil_div.h"
#include "backends/cpu/float_rows.h"
#include "backends/cpu/gemm.h"
#include "backends/cpu/unrolled.h"

namespace deltatape::cpu {
namespace {

// The widest register of the target, in elements; tails use half, quarter, ... of it down to single numbers.
template <class T>
constexpr int kWidest = static_cast<int>(xsimd::batch<T>::size);
// With 32 registers (AVX-512) a tile may hold 16 sums, with 16 registers 8.
template <class T>
constexpr bool kManyRegisters = kWidest<T> * sizeof(T) >= 64;

template <class T, int N>
struct Lanes {
  using Vector = xsimd::make_sized_batch_t<T, N>;
  static Vector load(const T* p) { return Vector::load_unaligned(p); }
  static Vector broadcast(T x) { return Vector(x); }
  static Vector multiply_add(Vector a, Vector b, Vector c) {
#ifdef __FMA__
    // xsimd's fma of 128 bits is a product and a sum: a compiler rounds it twice here and once there.
    if constexpr (N * sizeof(T) == 16 && sizeof(T) == 4) {
      return _mm_fmadd_ps(a, b, c);
    } else if constexpr (N * sizeof(T) == 16) {
      return _mm_fmadd_pd(a, b, c);
    }
#endif
    return xsimd::fma(a, b, c);
  }
  static void store(T* p, Vector x) { x.store_unaligned(p); }
};
template <class T>
struct Lanes<T, 1> {
  using Vector = T;
  static T load(const T* p) { return *p; }
  static T broadcast(T x) { return x; }
  static T multiply_add(T a, T b, T c) {
#ifdef __FMA__
    return std::fma(a, b, c);  // rounded once as in the vectors; a compiler may take a * b + c apart
#else
    return a * b + c;
#endif
  }
  static void store(T* p, T x) { *p = x; }
};

// C [Rows, N * Vectors] from A [Rows, k] and row-major B [k, N * Vectors], with all sums in registers.
template <class T, int N, int Rows, int Vectors, Update kUpdate>
[[gnu::always_inline]] inline void tile(int64_t k, MatrixView<T> a, const T* b, int64_t ldb, T* c, int64_t ldc) {
  using L = Lanes<T, N>;
  using Vector = typename L::Vector;
  std::array<Vector, static_cast<size_t>(Rows * Vectors)> sums;
  unrolled<Rows * Vectors>([&](auto i) { sums[i] = L::broadcast(T(0)); });
  if constexpr (kUpdate != Update::set) {
    for (int64_t r = 0; r < Rows; ++r) {
      __builtin_prefetch(c + r * ldc, 1);
      __builtin_prefetch(c + r * ldc + N * Vectors - 1, 1);
    }
  }
  for (int64_t p = 0; p < k; ++p) {
    std::array<Vector, Vectors> factors;
    unrolled<Vectors>([&](auto v) { factors[v] = L::load(b + p * ldb + static_cast<int64_t>(v) * N); });
    unrolled<Rows>([&](auto r) {
      const Vector x = L::broadcast(*a.at(static_cast<int64_t>(r), p));
      unrolled<Vectors>([&](auto v) { sums[r * Vectors + v] = L::multiply_add(x, factors[v], sums[r * Vectors + v]); });
    });
  }
  unrolled<Rows>([&](auto r) {
    unrolled<Vectors>([&](auto v) {
      T* place = c + static_cast<int64_t>(r) * ldc + static_cast<int64_t>(v) * N;
      const Vector sum = sums[r * Vectors + v];
      if constexpr (kUpdate == Update::set) {
        L::store(place, sum);
      } else if constexpr (kUpdate == Update::add) {
        L::store(place, L::load(place) + sum);
      } else {
        L::store(place, L::load(place) - sum);
      }
    });
  });
}

// `count` tiles, one below the other.
template <class T, int N, int Rows, int Vectors, Update kUpdate>
void tiles(int64_t count, int64_t k, MatrixView<T> a, const T* b, int64_t ldb, T* c, int64_t ldc) {
  for (int64_t i = 0; i < count * Rows; i += Rows) {
    tile<T, N, Rows, Vectors, kUpdate>(k, a.block(i, 0), b, ldb, c + i * ldc, ldc);
  }
}

// All rows of a panel of N * Vectors columns, in tiles of at most Rows rows that are as equal in height as they can be:
// a low tile has too few sums to hide the latency of an addition.
template <class T, int N, int Rows, int Vectors, Update kUpdate>
void panel(int64_t m, int64_t k, MatrixView<T> a, const T* b, int64_t ldb, T* c, int64_t ldc) {
  static constexpr auto kTiles = []<size_t... I>(std::index_sequence<I...>) {
    return std::array{&tiles<T, N, static_cast<int>(I) + 1, Vectors, kUpdate>...};
  }
  (std::make_index_sequence<Rows>());
  if (m == 0) {
    return;
  }
  const int64_t count = ceil_div(m, Rows);
  const int64_t height = ceil_div(m, count);
  const int64_t lower = count * height - m;  // tiles with a row less
  const int64_t high = (count - lower) * height;
  kTiles[static_cast<size_t>(height - 1)](count - lower, k, a, b, ldb, c, ldc);
  if (lower > 0) {
    kTiles[static_cast<size_t>(height - 2)](lower, k, a.block(high, 0), b, ldb, c + high * ldc, ldc);
  }
}

// Columns from `j` on in panels of N (twice N or four times N for the widest registers), then narrower ones.
template <class T, int N, Update kUpdate>
void panels(int64_t j, int64_t m, int64_t n, int64_t k, MatrixView<T> a, const T* b, int64_t ldb, T* c, int64_t ldc) {
  constexpr int kRows = kManyRegisters<T> ? 8 : 6;
  if constexpr (N == kWidest<T>) {
    // Few rows leave registers for more columns, and need them to hide the latency of the additions.
    if (m < 4) {
      for (; j + 4 * N <= n; j += 4 * N) {
        panel<T, N, 2, 4, kUpdate>(m, k, a, b + j, ldb, c + j, ldc);
      }
    }
    for (; j + 2 * N <= n; j += 2 * N) {
      panel<T, N, kRows, 2, kUpdate>(m, k, a, b + j, ldb, c + j, ldc);
    }
  }
  for (; j + N <= n; j += N) {
    panel<T, N, kRows, 1, kUpdate>(m, k, a, b + j, ldb, c + j, ldc);
  }
  if constexpr (N > 1) {
    constexpr bool kNarrowest = N / 2 * sizeof(T) < 16;  // xsimd has batches of 128 bits and more
    const int64_t rest = n - j;
    if (rest == 0) {
      return;
    }
    // Computing a few columns twice beats narrower panels, and does no harm where C is set.
    if (kUpdate == Update::set && n >= N && (kNarrowest || rest > N / 2)) {
      panel<T, N, kRows, 1, kUpdate>(m, k, a, b + n - N, ldb, c + n - N, ldc);
    } else {
      panels<T, kNarrowest ? 1 : N / 2, kUpdate>(j, m, n, k, a, b, ldb, c, ldc);
    }
  }
}

// Sum of the elements of a vector, by halves. (xsimd's hadd is right too, but makes GCC 12 warn inside its intrinsics.)
template <class T>
T horizontal_sum(xsimd::batch<T> x) {
  alignas(64) T parts[kWidest<T>];
  x.store_aligned(parts);
  for (int width = kWidest<T> / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) {
      parts[i] += parts[i + width];
    }
  }
  return parts[0];
}

// out[j] = sum of x[p] y[p + j * ldy] for j < Count.
template <class T, int Count>
void dot(int64_t k, const T* x, const T* y, int64_t ldy, T* out) {
  using Vector = xsimd::batch<T>;
  constexpr int64_t kStep = kWidest<T>;
  constexpr size_t kChains = Count == 1 ? 4 : 1;  // sums per result, to hide the latency of the additions
  std::array<std::array<Vector, kChains>, Count> sums;
  for (auto& chains : sums) {
    chains.fill(Vector(T(0)));
  }
  const auto add = [&](size_t chain, int64_t at) {
    const Vector factor = Vector::load_unaligned(x + at);
    for (size_t j = 0; j < Count; ++j) {
      const Vector other = Vector::load_unaligned(y + static_cast<int64_t>(j) * ldy + at);
      sums[j][chain] = xsimd::fma(factor, other, sums[j][chain]);
    }
  };
  constexpr int64_t kStride = static_cast<int64_t>(kChains) * kStep;
  int64_t p = 0;
  for (; p + kStride <= k; p += kStride) {
    for (size_t chain = 0; chain < kChains; ++chain) {
      add(chain, p + static_cast<int64_t>(chain) * kStep);
    }
  }
  for (; p + kStep <= k; p += kStep) {
    add(0, p);
  }
  for (size_t j = 0; j < Count; ++j) {
    Vector total = sums[j][0];
    for (size_t chain = 1; chain < kChains; ++chain) {
      total += sums[j][chain];
    }
    out[j] = horizontal_sum<T>(total);
    for (int64_t i = p; i < k; ++i) {
      out[j] += x[i] * y[static_cast<int64_t>(j) * ldy + i];
    }
  }
}

template <class T>
void put(T sum, Update update, T& place) {
  place = update == Update::set ? sum : update == Update::add ? place + sum : place - sum;
}

// Rows of A and columns of B are contiguous.
template <class T>
void dots(int64_t m, int64_t n, int64_t k, MatrixView<T> a, MatrixView<T> b, T* c, int64_t ldc, Update update) {
  constexpr int64_t kTogether = 4;
  for (int64_t i = 0; i < m; ++i) {
    std::array<T, kTogether> sums;
    for (int64_t j = 0; j < n;) {
      const int64_t count = j + kTogether <= n ? kTogether : 1;
      if (count == kTogether) {
        dot<T, kTogether>(k, a.at(i, 0), b.at(0, j), b.column_stride, sums.data());
      } else {
        dot<T, 1>(k, a.at(i, 0), b.at(0, j), b.column_stride, sums.data());
      }
      for (int64_t r = 0; r < count; ++r, ++j) {
        put(sums[static_cast<size_t>(r)], update, c[i * ldc + j]);
      }
    }
  }
}

// A square block of a matrix, as wide as a register, transposed.
template <class T>
void transpose_square(const T* in, int64_t ld, T* out, int64_t ldo) {
  constexpr int64_t kBlock = 16 / sizeof(T);  // 128-bit registers: zip_lo and zip_hi mean the same everywhere
  using Vector = xsimd::make_sized_batch_t<T, kBlock>;
  if constexpr (kBlock == 4) {
    const Vector r0 = Vector::load_unaligned(in);
    const Vector r1 = Vector::load_unaligned(in + ld);
    const Vector r2 = Vector::load_unaligned(in + 2 * ld);
    const Vector r3 = Vector::load_unaligned(in + 3 * ld);
    const Vector even_low = xsimd::zip_lo(r0, r2);
    const Vector odd_low = xsimd::zip_lo(r1, r3);
    const Vector even_high = xsimd::zip_hi(r0, r2);
    const Vector odd_high = xsimd::zip_hi(r1, r3);
    xsimd::zip_lo(even_low, odd_low).store_unaligned(out);
    xsimd::zip_hi(even_low, odd_low).store_unaligned(out + ldo);
    xsimd::zip_lo(even_high, odd_high).store_unaligned(out + 2 * ldo);
    xsimd::zip_hi(even_high, odd_high).store_unaligned(out + 3 * ldo);
  } else {
    const Vector r0 = Vector::load_unaligned(in);
    const Vector r1 = Vector::load_unaligned(in + ld);
    xsimd::zip_lo(r0, r1).store_unaligned(out);
    xsimd::zip_hi(r0, r1).store_unaligned(out + ldo);
  }
}

// out [columns, rows] = in [rows, columns] transposed; `in` has contiguous rows `ld` apart, `out` rows `rows` apart.
template <class T>
void transpose(int64_t rows, int64_t columns, const T* in, int64_t ld, T* out) {
  constexpr int64_t kBlock = 16 / sizeof(T);
  constexpr int64_t kLine = 64 / sizeof(T);  // rows at a time, so that what is written is whole cache lines
  const int64_t whole_rows = rows / kBlock * kBlock;
  const int64_t whole_columns = columns / kBlock * kBlock;
  for (int64_t first = 0; first < whole_rows; first += kLine) {
    const int64_t last = std::min(first + kLine, whole_rows);
    for (int64_t j = 0; j < whole_columns; j += kBlock) {
      for (int64_t i = first; i < last; i += kBlock) {
        transpose_square(in + i * ld + j, ld, out + j * rows + i, rows);
      }
    }
  }
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = i < whole_rows ? whole_columns : 0; j < columns; ++j) {
      out[j * rows + i] = in[i * ld + j];
    }
  }
}

template <class T>
void dispatch(int64_t m, int64_t n, int64_t k, MatrixView<T> a, const T* b, int64_t ldb, T* c, int64_t ldc,
              Update update) {
  switch (update) {
    case Update::set:
      return panels<T, kWidest<T>, Update::set>(0, m, n, k, a, b, ldb, c, ldc);
    case Update::add:
      return panels<T, kWidest<T>, Update::add>(0, m, n, k, a, b, ldb, c, ldc);
    case Update::subtract:
      return panels<T, kWidest<T>, Update::subtract>(0, m, n, k, a, b, ldb, c, ldc);
  }
}

// Both small_gemm and chain_gemm: with and without dot products.
template <class T, bool kDots>
void product(int64_t m, int64_t n, int64_t k, MatrixView<T> a, MatrixView<T> b, T* c, int64_t ldc, Update update) {
  constexpr int64_t kFew = 3;
  if (n <= kFew && m > n) {  // the vectors go along the longer side: C' = B' A'
    if (n == 1 && ldc == 1) {
      product<T, kDots>(n, m, k, b.transposed(), a.transposed(), c, m, update);
      return;
    }
    Scratch<T> transposed(n * m);
    product<T, kDots>(n, m, k, b.transposed(), a.transposed(), transposed.data(), m, Update::set);
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        put(transposed.data()[j * m + i], update, c[i * ldc + j]);
      }
    }
    return;
  }
  const bool rows_of_b = b.column_stride == 1 && n > 1;
  if (kDots && m <= kFew && !rows_of_b && b.row_stride == 1) {
    // A few rows of dot products: packing B would cost more than multiplying.
    Scratch<T> rows(a.column_stride == 1 ? 0 : m * k);
    if (a.column_stride != 1) {
      pack_matrix(m, k, a, rows.data());
      a = {rows.data(), k, 1};
    }
    dots(m, n, k, a, b, c, ldc, update);
    return;
  }
  if (rows_of_b || n == 1) {
    dispatch(m, n, k, a, b.data, b.row_stride, c, ldc, update);
    return;
  }
  Scratch<T> packed(k * n);
  pack_matrix(k, n, b, packed.data());
  dispatch(m, n, k, a, packed.data(), n, c, ldc, update);
}

}  // namespace

template <class T>
void pack_matrix(int64_t rows, int64_t columns, MatrixView<T> in, T* out) {
  if (in.column_stride == 1 || columns == 1) {
    for (int64_t i = 0; i < rows; ++i) {
      std::copy_n(in.at(i, 0), columns, out + i * columns);
    }
  } else if (in.row_stride == 1 || rows == 1) {
    transpose(columns, rows, in.data, in.column_stride, out);
  } else {
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < columns; ++j) {
        out[i * columns + j] = *in.at(i, j);
      }
    }
  }
}

template <class T>
void small_gemm(int64_t m, int64_t n, int64_t k, MatrixView<T> a, MatrixView<T> b, T* c, int64_t ldc, Update update) {
  product<T, true>(m, n, k, a, b, c, ldc, update);
}

template <class T>
void chain_gemm(int64_t m, int64_t n, int64_t k, MatrixView<T> a, MatrixView<T> b, T* c, int64_t ldc, Update update) {
  product<T, false>(m, n, k, a, b, c, ldc, update);
}

template void small_gemm(int64_t, int64_t, int64_t, MatrixView<float>, MatrixView<float>, float*, int64_t, Update);
template void small_gemm(int64_t, int64_t, int64_t, MatrixView<double>, MatrixView<double>, double*, int64_t, Update);
template void chain_gemm(int64_t, int64_t, int64_t, MatrixView<float>, MatrixView<float>, float*, int64_t, Update);
template void chain_gemm(int64_t, int64_t, int64_t, MatrixView<double>, MatrixView<double>, double*, int64_t, Update);
template void pack_matrix(int64_t, int64_t, MatrixView<float>, float*);
template void pack_matrix(int64_t, int64_t, MatrixView<double>, double*);

}  // namespace deltatape::cpu
