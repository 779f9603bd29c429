// Matrix products: OpenBLAS for large ones, small_gemm for small ones, shared among OpenMP threads.
#include <xflens/cxxblas/drivers/cblas.h>

#include <algorithm>
#include <limits>

#include "backends/cpu/cpu_backend.h"
#include "backends/cpu/float_rows.h"
#include "backends/cpu/small_gemm.h"
#include "backends/cpu/thread_split.h"

extern "C" void openblas_set_num_threads(int count);

namespace deltatape::cpu {
namespace {

// One pool of threads, OpenMP's: OpenBLAS' own would compete with it for the cores.
void keep_blas_single_threaded() {
  static const bool done = [] {
    openblas_set_num_threads(1);
    return true;
  }();
  static_cast<void>(done);
}

/// Whether BLAS can read the matrix in place, and how: contiguous rows, or contiguous columns (transposed).
struct BlasLayout {
  bool usable = false;
  CBLAS_TRANSPOSE transpose = CblasNoTrans;
  int leading = 1;
};

constexpr int64_t kBlasLimit = std::numeric_limits<int>::max();

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

void blas_gemm(BlasLayout a_layout, BlasLayout b_layout, int m, int n, int k, const float* a, const float* b,
               float beta, float* c, int ldc) {
  cblas_sgemm(CblasRowMajor, a_layout.transpose, b_layout.transpose, m, n, k, 1.0F, a, a_layout.leading, b,
              b_layout.leading, beta, c, ldc);
}
void blas_gemm(BlasLayout a_layout, BlasLayout b_layout, int m, int n, int k, const double* a, const double* b,
               double beta, double* c, int ldc) {
  cblas_dgemm(CblasRowMajor, a_layout.transpose, b_layout.transpose, m, n, k, 1.0, a, a_layout.leading, b,
              b_layout.leading, beta, c, ldc);
}

// Measured: up to here small_gemm is the faster one.
constexpr double kSmallProduct = 32.0 * 32.0 * 32.0;

bool is_small(int64_t m, int64_t n, int64_t k) {
  return static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k) <= kSmallProduct ||
         std::min({m, n, k}) <= 2 || k > kBlasLimit;
}

// C = A B in the type that is computed in. A matrix that BLAS cannot read is packed first.
template <class T>
void multiply(int64_t m, int64_t n, int64_t k, MatrixView<T> a, MatrixView<T> b, T* c, int64_t ldc) {
  if (is_small(m, n, k)) {
    small_gemm(m, n, k, a, b, c, ldc, Update::set);
    return;
  }
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
  blas_gemm(a_layout, b_layout, static_cast<int>(m), static_cast<int>(n), static_cast<int>(k), a.data, b.data, T(0), c,
            static_cast<int>(ldc));
}

// out [rows, columns] in f32, dense in the direction in which `in` is.
template <class T>
MatrixView<float> widen(int64_t rows, int64_t columns, MatrixView<T> in, float* out) {
  const bool by_columns = in.column_stride != 1 && in.row_stride == 1;
  const MatrixView<T> source = by_columns ? in.transposed() : in;
  const int64_t outer = by_columns ? columns : rows;
  const int64_t inner = by_columns ? rows : columns;
  for (int64_t i = 0; i < outer; ++i) {
    load_row(source.at(i, 0), source.column_stride, inner, out + i * inner);
  }
  const MatrixView<float> dense{out, inner, 1};
  return by_columns ? dense.transposed() : dense;
}

// C = A B for a 16-bit type: blocks of A and B are widened to f32, and C is rounded once at the end.
template <class T>
void multiply_widened(int64_t m, int64_t n, int64_t k, MatrixView<T> a, MatrixView<T> b, T* c, int64_t ldc) {
  constexpr int64_t kBlock = 512;  // rows and columns at a time; all of k, so that there is one sum
  const int64_t m_block = std::min(m, kBlock);
  const int64_t n_block = std::min(n, kBlock);
  Scratch<float> a_wide(m_block * k);
  Scratch<float> b_wide(k * n_block);
  Scratch<float> c_wide(m_block * n_block);
  for (int64_t j = 0; j < n; j += n_block) {
    const int64_t columns = std::min(n_block, n - j);
    const MatrixView<float> b_view = widen(k, columns, b.block(0, j), b_wide.data());
    for (int64_t i = 0; i < m; i += m_block) {
      const int64_t rows = std::min(m_block, m - i);
      const MatrixView<float> a_view = widen(rows, k, a.block(i, 0), a_wide.data());
      multiply(rows, columns, k, a_view, b_view, c_wide.data(), columns);
      for (int64_t r = 0; r < rows; ++r) {
        store_row(c_wide.data() + r * columns, columns, c + (i + r) * ldc + j);
      }
    }
  }
}

struct BatchedProduct {
  int64_t batch;
  int64_t m;
  int64_t n;
  int64_t k;
};

// How one product is cut into row_parts x column_parts blocks.
struct Grid {
  int64_t row_parts = 1;
  int64_t column_parts = 1;
};

// `parts` blocks that are as square as possible, since a block reads its rows of A and its columns of B in full.
Grid square_grid(int64_t m, int64_t n, int64_t parts) {
  Grid best{parts, 1};
  double least = std::numeric_limits<double>::infinity();
  for (int64_t rows = 1; rows <= parts; ++rows) {
    if (parts % rows != 0) {
      continue;
    }
    const Grid grid{rows, parts / rows};
    const double cost = static_cast<double>(ceil_div(m, grid.row_parts) + ceil_div(n, grid.column_parts));
    if (cost < least) {
      least = cost;
      best = grid;
    }
  }
  return best;
}

template <class T>
void matmul_batched(BatchedProduct size, const Tensor& a, const Tensor& b, const Tensor& out) {
  const int64_t batch = size.batch;
  const int64_t m = size.m;
  const int64_t n = size.n;
  const int64_t k = size.k;
  const auto* a_data = static_cast<const T*>(a.raw());
  const auto* b_data = static_cast<const T*>(b.raw());
  auto* c_data = static_cast<T*>(out.mutable_raw());
  constexpr double kFlopsPerNanosecond = 20;
  const double nanoseconds =
      2.0 * static_cast<double>(m) * static_cast<double>(n) * (static_cast<double>(k) + 1.0) / kFlopsPerNanosecond;
  const int64_t threads = thread_count(static_cast<int64_t>(nanoseconds * static_cast<double>(batch)));
  // Blocks of a product only where there are fewer products than threads; never along k, so that sums stay the same.
  const Grid grid = square_grid(m, n, batch >= threads ? 1 : ceil_div(threads, batch));
  // Edges of blocks at multiples of 16: whole registers and cache lines. BLAS counts in int.
  const auto block_size = [](int64_t extent, int64_t part_count) {
    return std::min({extent, ceil_div(ceil_div(extent, part_count), 16) * 16, int64_t{1} << 30});
  };
  const int64_t block_rows = block_size(m, grid.row_parts);
  const int64_t block_columns = block_size(n, grid.column_parts);
  const int64_t row_parts = ceil_div(m, block_rows);
  const int64_t column_parts = ceil_div(n, block_columns);
  const int64_t parts = row_parts * column_parts;

  parallel_for(batch * parts, nanoseconds / static_cast<double>(parts), [&](int64_t task) {
    const int64_t entry = task / parts;
    const int64_t row = task % parts / column_parts * block_rows;
    const int64_t column = task % parts % column_parts * block_columns;
    const int64_t rows = std::min(block_rows, m - row);
    const int64_t columns = std::min(block_columns, n - column);
    const MatrixView<T> x{a_data + entry * a.strides()[0] + row * a.strides()[1], a.strides()[1], a.strides()[2]};
    const MatrixView<T> y{b_data + entry * b.strides()[0] + column * b.strides()[2], b.strides()[1], b.strides()[2]};
    T* c = c_data + (entry * m + row) * n + column;
    if constexpr (kIsComputeType<T>) {
      multiply(rows, columns, k, x, y, c, n);
    } else {
      multiply_widened(rows, columns, k, x, y, c, n);
    }
  });
}

}  // namespace

void CpuBackend::matmul(const Tensor& a, const Tensor& b, const Tensor& out) const {
  BatchedProduct size{out.shape()[0], out.shape()[1], out.shape()[2], a.shape()[2]};
  if (out.numel() == 0) {
    return;
  }
  if (size.k == 0) {
    fill(0.0, out);
    return;
  }
  keep_blas_single_threaded();
  Tensor x = a;
  // One matrix b for the whole batch, and rows of a at equal distances: a single product with more rows.
  if (size.batch > 1 && b.strides()[0] == 0 && (size.m == 1 || a.strides()[0] == size.m * a.strides()[1])) {
    const int64_t row_stride = size.m == 1 ? a.strides()[0] : a.strides()[1];
    size.m *= size.batch;
    size.batch = 1;
    x = a.as_view({1, size.m, size.k}, {0, row_stride, a.strides()[2]}, a.offset());
  }
  visit_floating(out.dtype(), [&](auto tag) { matmul_batched<decltype(tag)>(size, x, b, out); });
}

}  // namespace deltatape::cpu
