#include "backends/cpu/gemm.h"

#include <xflens/cxxblas/drivers/cblas.h>

#include <algorithm>
#include <array>
#include <limits>
#include <string_view>

#include "backends/cpu/float_rows.h"
#include "backends/cpu/thread_split.h"

extern "C" void openblas_set_num_threads(int count);
extern "C" char* openblas_get_corename();

namespace deltatape::cpu {
namespace {

constexpr int64_t kBlasLimit = std::numeric_limits<int>::max();

/// Whether BLAS can read a matrix in place, and how: contiguous rows, or contiguous columns (transposed).
struct BlasLayout {
  bool usable = false;
  CBLAS_TRANSPOSE transpose = CblasNoTrans;
  int leading = 1;
};

template <class T>
BlasLayout blas_layout(int64_t rows, int64_t columns, MatrixView<T> matrix) {
  const auto fits = [](int64_t leading, int64_t extent) { return leading >= extent && leading <= kBlasLimit; };
  // The stride of a dimension of size 1 means nothing.
  const int64_t row_stride = rows == 1 ? columns : matrix.row_stride;
  const int64_t column_stride = columns == 1 ? rows : matrix.column_stride;
  if ((columns == 1 || column_stride == 1) && fits(row_stride, columns)) {
    return {true, CblasNoTrans, static_cast<int>(row_stride)};
  }
  if ((rows == 1 || row_stride == 1) && fits(column_stride, rows)) {
    return {true, CblasTrans, static_cast<int>(column_stride)};
  }
  return {};
}

void call_blas(BlasLayout a_layout, BlasLayout b_layout, int m, int n, int k, const float* a, const float* b, float* c,
               int ldc) {
  cblas_sgemm(CblasRowMajor, a_layout.transpose, b_layout.transpose, m, n, k, 1.0F, a, a_layout.leading, b,
              b_layout.leading, 0.0F, c, ldc);
}
void call_blas(BlasLayout a_layout, BlasLayout b_layout, int m, int n, int k, const double* a, const double* b,
               double* c, int ldc) {
  cblas_dgemm(CblasRowMajor, a_layout.transpose, b_layout.transpose, m, n, k, 1.0, a, a_layout.leading, b,
              b_layout.leading, 0.0, c, ldc);
}

/// What OpenBLAS found out about the processor when it was loaded.
struct Blas {
  bool has_avx512;
};
const Blas& blas() {
  static const Blas instance = [] {
    // One pool of threads, OpenMP's: OpenBLAS' own would compete with it for the cores.
    openblas_set_num_threads(1);
    constexpr std::array<std::string_view, 3> kWithAvx512{"SkylakeX", "Cooperlake", "Sapphirerapids"};
    const std::string_view core = openblas_get_corename();
    return Blas{std::find(kWithAvx512.begin(), kWithAvx512.end(), core) != kWithAvx512.end()};
  }();
  return instance;
}

#ifdef __AVX512F__
constexpr bool kWeHaveAvx512 = true;
#else
constexpr bool kWeHaveAvx512 = false;
#endif

constexpr int64_t kFew = 3;  // rows, columns or terms, for which no preparation of A and B pays

// Our unprepared kernel is the fastest as long as B stays in the second-level cache, and where B is read only a few
// times (bench_gemm --shares large).
template <class T>
bool stays_in_cache(int64_t k, int64_t n) {
  constexpr double kBytesOfB = (kWeHaveAvx512 ? 1024 : 256) * 1024;
  return static_cast<double>(k) * static_cast<double>(n) * static_cast<double>(sizeof(T)) <= kBytesOfB;
}
bool reads_b_once(int64_t m, bool b_has_rows) { return kWeHaveAvx512 && m <= 32 && b_has_rows; }

// An entry of C is a chain of additions over at most so many terms, then a sum of these chains: one chain over all of a
// long k would be less accurate, and every kernel has to cut k alike for the same bits.
template <class T>
constexpr int64_t kDepth = 1024 / static_cast<int64_t>(sizeof(T));

// k in equal blocks of at most `most`.
int64_t even_depth(int64_t k, int64_t most) { return ceil_div(k, ceil_div(k, most)); }

// C = A B by chain_gemm, one block of k after the other.
template <class T>
void chains_by_depth(int64_t m, int64_t n, int64_t k, MatrixView<T> a, MatrixView<T> b, T* c, int64_t ldc) {
  const int64_t step = even_depth(k, kDepth<T>);
  for (int64_t p = 0; p < k; p += step) {
    chain_gemm(m, n, std::min(step, k - p), a.block(0, p), b.block(p, 0), c, ldc, p == 0 ? Update::set : Update::add);
  }
}

// C = A B for m or n of 1 to 3. Dot products have many sums side by side, so that their blocks of k can be longer.
template <class T>
void few_by_depth(int64_t m, int64_t n, int64_t k, MatrixView<T> a, MatrixView<T> b, T* c, int64_t ldc) {
  const bool along_m = m > n;
  const MatrixView<T> longer = along_m ? a.transposed() : b;
  const bool dots = longer.row_stride == 1 && (longer.column_stride != 1 || std::max(m, n) == 1);
  const int64_t step = even_depth(k, dots ? 16 * kDepth<T> : kDepth<T>);
  for (int64_t p = 0; p < k; p += step) {
    small_gemm(m, n, std::min(step, k - p), a.block(0, p), b.block(p, 0), c, ldc, p == 0 ? Update::set : Update::add);
  }
}

// C = A B by chain_gemm with few enough rows at a time that they stay in the second-level cache beside B: they are read
// once for every panel of B.
template <class T>
void chains_by_rows(int64_t m, int64_t n, int64_t k, MatrixView<T> a, MatrixView<T> b, T* c, int64_t ldc) {
  constexpr int64_t kMultiple = 48;  // whole tiles
  constexpr int64_t kBytes = 128 * 1024;
  const int64_t most = std::max(int64_t{1}, kBytes / (k * static_cast<int64_t>(sizeof(T)) * kMultiple)) * kMultiple;
  const bool one_block = m <= most;
  // Rows that are columns in memory: a tile uses a whole cache line of each column with AVX-512, and a part with AVX2.
  const bool pack_a = !kWeHaveAvx512 && a.column_stride != 1;
  if (one_block && !pack_a) {
    chains_by_depth(m, n, k, a, b, c, ldc);
    return;
  }
  const bool pack_b = b.column_stride != 1;
  Scratch<T> a_packed(pack_a ? std::min(m, most) * k : 0);
  Scratch<T> b_packed(pack_b ? k * n : 0);
  if (pack_b) {
    pack_matrix(k, n, b, b_packed.data());
    b = {b_packed.data(), n, 1};
  }
  for (int64_t i = 0; i < m; i += most) {
    const int64_t rows = std::min(most, m - i);
    MatrixView<T> block = a.block(i, 0);
    if (pack_a) {
      pack_matrix(rows, k, block, a_packed.data());
      block = {a_packed.data(), k, 1};
    }
    chains_by_depth(rows, n, k, block, b, c + i * ldc, ldc);
  }
}

}  // namespace

template <class T>
void blas_gemm(int64_t m, int64_t n, int64_t k, MatrixView<T> a, MatrixView<T> b, T* c, int64_t ldc) {
  static_cast<void>(blas());
  BlasLayout a_layout = blas_layout(m, k, a);
  BlasLayout b_layout = blas_layout(k, n, b);
  Scratch<T> a_packed(a_layout.usable ? 0 : m * k);
  Scratch<T> b_packed(b_layout.usable ? 0 : k * n);
  if (!a_layout.usable) {
    pack_matrix(m, k, a, a_packed.data());
    a = {a_packed.data(), k, 1};
    a_layout = blas_layout(m, k, a);
  }
  if (!b_layout.usable) {
    pack_matrix(k, n, b, b_packed.data());
    b = {b_packed.data(), n, 1};
    b_layout = blas_layout(k, n, b);
  }
  call_blas(a_layout, b_layout, static_cast<int>(m), static_cast<int>(n), static_cast<int>(k), a.data, b.data, c,
            static_cast<int>(ldc));
}

template <class T>
void blocked_gemm(int64_t m, int64_t n, int64_t k, MatrixView<T> a, MatrixView<T> b, T* c, int64_t ldc) {
  // A tile reads a panel of B (at most 32 KiB) from L1 and a group of rows of A (8 KiB) from L2, where a block of B
  // (512 KiB) waits too.
  constexpr int64_t kGroup = kWeHaveAvx512 ? 8 : 12;  // whole tiles of chain_gemm
  constexpr int64_t kPanel = 128 / static_cast<int64_t>(sizeof(T));
  constexpr int64_t kRows = 16 * kGroup;
  constexpr int64_t kColumns = 16 * kPanel;
  const int64_t step = even_depth(k, kDepth<T>);
  Scratch<T> a_packed(std::min(m, kRows) * step);
  Scratch<T> b_packed(std::min(n, kColumns) * step);
  for (int64_t j = 0; j < n; j += kColumns) {
    const int64_t columns = std::min(kColumns, n - j);
    for (int64_t p = 0; p < k; p += step) {
      const int64_t depth = std::min(step, k - p);
      for (int64_t q = 0; q < columns; q += kPanel) {
        pack_matrix(depth, std::min(kPanel, columns - q), b.block(p, j + q), b_packed.data() + q * depth);
      }
      for (int64_t i = 0; i < m; i += kRows) {
        const int64_t rows = std::min(kRows, m - i);
        for (int64_t r = 0; r < rows; r += kGroup) {
          pack_matrix(depth, std::min(kGroup, rows - r), a.block(i + r, p).transposed(), a_packed.data() + r * depth);
        }
        for (int64_t q = 0; q < columns; q += kPanel) {
          const int64_t width = std::min(kPanel, columns - q);
          const MatrixView<T> panel{b_packed.data() + q * depth, width, 1};
          for (int64_t r = 0; r < rows; r += kGroup) {
            const int64_t height = std::min(kGroup, rows - r);
            const MatrixView<T> group{a_packed.data() + r * depth, 1, height};
            chain_gemm(height, width, depth, group, panel, c + (i + r) * ldc + j + q, ldc,
                       p == 0 ? Update::set : Update::add);
          }
        }
      }
    }
  }
}

template <class T>
Sums gemm_sums(int64_t m, int64_t n, int64_t k, bool b_has_rows) {
  if (std::min(m, n) <= kFew) {
    return Sums::few_rows;
  }
  // OpenBLAS takes processors newer than itself for older ones: 0.3.21 runs AVX2 kernels on Zen 4 and Zen 5.
  const bool ours = k <= kFew || k > kBlasLimit || stays_in_cache<T>(k, n) || reads_b_once(m, b_has_rows) ||
                    (kWeHaveAvx512 && !blas().has_avx512);
  return ours ? Sums::chains : Sums::blas;
}

template <class T>
void gemm(Sums sums, int64_t m, int64_t n, int64_t k, MatrixView<T> a, MatrixView<T> b, T* c, int64_t ldc) {
  if (sums == Sums::blas) {
    blas_gemm(m, n, k, a, b, c, ldc);
  } else if (sums == Sums::few_rows) {
    few_by_depth(m, n, k, a, b, c, ldc);
  } else if (k <= kFew || reads_b_once(m, b.column_stride == 1)) {
    chains_by_depth(m, n, k, a, b, c, ldc);
  } else if (stays_in_cache<T>(k, n)) {
    chains_by_rows(m, n, k, a, b, c, ldc);
  } else {
    blocked_gemm(m, n, k, a, b, c, ldc);
  }
}

template Sums gemm_sums<float>(int64_t, int64_t, int64_t, bool);
template Sums gemm_sums<double>(int64_t, int64_t, int64_t, bool);
template void gemm(Sums, int64_t, int64_t, int64_t, MatrixView<float>, MatrixView<float>, float*, int64_t);
template void gemm(Sums, int64_t, int64_t, int64_t, MatrixView<double>, MatrixView<double>, double*, int64_t);
template void blas_gemm(int64_t, int64_t, int64_t, MatrixView<float>, MatrixView<float>, float*, int64_t);
template void blas_gemm(int64_t, int64_t, int64_t, MatrixView<double>, MatrixView<double>, double*, int64_t);
template void blocked_gemm(int64_t, int64_t, int64_t, MatrixView<float>, MatrixView<float>, float*, int64_t);
template void blocked_gemm(int64_t, int64_t, int64_t, MatrixView<double>, MatrixView<double>, double*, int64_t);

}  // namespace deltatape::cpu
