// Products of two matrices on one thread, three ways: kernels of our own for small and for large ones, and BLAS.
#pragma once

#include <cstdint>

namespace deltatape::cpu {

/// A matrix in memory with any strides, in elements.
template <class T>
struct MatrixView {
  const T* data;
  int64_t row_stride;
  int64_t column_stride;

  [[nodiscard]] const T* at(int64_t row, int64_t column) const {
    return data + row * row_stride + column * column_stride;
  }
  [[nodiscard]] MatrixView block(int64_t row, int64_t column) const {
    return {at(row, column), row_stride, column_stride};
  }
  [[nodiscard]] MatrixView transposed() const { return {data, column_stride, row_stride}; }
};

enum class Update : uint8_t {
  set,       // C = A B
  add,       // C = C + A B
  subtract,  // C = C - A B
};

// Everywhere: A [m, k] and B [k, n] have any strides, C [m, n] is row-major with rows `ldc` apart; float and double.

/// How the sums of a product are added up.
enum class Sums : uint8_t {
  few_rows,  // few rows or columns: by small_gemm, in blocks of k
  chains,    // in ascending order, in blocks of k: the same bits by any of our kernels
  blas,
};

/// How gemm adds up a product of these sizes on this machine. Decided once for a product, and passed to gemm with each
/// of its blocks, its sums do not depend on how it is cut (by Pieces, never along k). `b_has_rows`: B's rows are
/// contiguous.
template <class T>
Sums gemm_sums(int64_t m, int64_t n, int64_t k, bool b_has_rows);

/// C = A B by whichever of the functions below is the fastest for these sizes on this machine and adds up as `sums`.
template <class T>
void gemm(Sums sums, int64_t m, int64_t n, int64_t k, MatrixView<T> a, MatrixView<T> b, T* c, int64_t ldc);

/// The same for a product that is not a block of a larger one.
template <class T>
void gemm(int64_t m, int64_t n, int64_t k, MatrixView<T> a, MatrixView<T> b, T* c, int64_t ldc) {
  gemm(gemm_sums<T>(m, n, k, b.column_stride == 1), m, n, k, a, b, c, ldc);
}

/// Without any preparation of A, so cheap to call. An entry of C is one sum over k in ascending order, or for m or n of
/// 1 to 3 a few interleaved ones.
template <class T>
void small_gemm(int64_t m, int64_t n, int64_t k, MatrixView<T> a, MatrixView<T> b, T* c, int64_t ldc, Update update);

/// As small_gemm, but an entry of C is one sum over k in ascending order whatever m and n are.
template <class T>
void chain_gemm(int64_t m, int64_t n, int64_t k, MatrixView<T> a, MatrixView<T> b, T* c, int64_t ldc, Update update);

/// C = A B with A and B copied, block by block, into the order in which they are read.
template <class T>
void blocked_gemm(int64_t m, int64_t n, int64_t k, MatrixView<T> a, MatrixView<T> b, T* c, int64_t ldc);

/// C = A B by OpenBLAS on the calling thread; a matrix that BLAS cannot read in place is copied. m, n, k fit an int.
template <class T>
void blas_gemm(int64_t m, int64_t n, int64_t k, MatrixView<T> a, MatrixView<T> b, T* c, int64_t ldc);

/// out [rows, columns], row-major and dense, = in.
template <class T>
void pack_matrix(int64_t rows, int64_t columns, MatrixView<T> in, T* out);

}  // namespace deltatape::cpu
