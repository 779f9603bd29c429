// Matrix products small enough that calling BLAS costs more than multiplying.
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
  subtract,  // C = C - A B
};

/// A [m, k] times B [k, n] into row-major C [m, n] with rows `ldc` apart; float and double, any strides of A and B.
/// Every entry of C is one sum over k in ascending order, or for m or n of 1 to 3 a few interleaved ones.
template <class T>
void small_gemm(int64_t m, int64_t n, int64_t k, MatrixView<T> a, MatrixView<T> b, T* c, int64_t ldc, Update update);

/// out [rows, columns], row-major and dense, = in.
template <class T>
void pack_matrix(int64_t rows, int64_t columns, MatrixView<T> in, T* out);

}  // namespace deltatape::cpu
