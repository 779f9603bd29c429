// Batched matrix products: how row-major tensors of any strides become calls of a library that counts by columns.
#include <algorithm>
#include <optional>

#include "backends/cuda/cuda_backend.h"
#include "backends/cuda/runtime/blas.h"

namespace deltatape::cuda {
namespace {

// A batch [B, rows, columns] as the library sees it, which by columns is the transpose: columns x rows.
struct Batch {
  int64_t rows;
  int64_t columns;
  int64_t stride;
  int64_t row_stride;
  int64_t column_stride;

  explicit Batch(const Tensor& x)
      : rows(x.shape()[1]),
        columns(x.shape()[2]),
        stride(x.shape()[0] == 1 ? 0 : x.strides()[0]),
        row_stride(x.strides()[1]),
        column_stride(x.strides()[2]) {}

  // The transpose, stored by columns; none where neither rows nor columns are dense.
  [[nodiscard]] std::optional<BlasMatrix> matrix(const void* data) const {
    if ((column_stride == 1 || columns == 1) && (row_stride >= columns || rows == 1)) {
      return BlasMatrix{data, rows == 1 ? columns : row_stride, stride, false};
    }
    if ((row_stride == 1 || rows == 1) && (column_stride >= rows || columns == 1)) {
      return BlasMatrix{data, columns == 1 ? rows : column_stride, stride, true};
    }
    return std::nullopt;
  }
};

Tensor dense_copy(const CudaBackend& backend, const Tensor& x) {
  Tensor copy = empty(x.shape(), x.options());
  backend.copy(x, copy);
  return copy;
}

}  // namespace

void CudaBackend::matmul(const Tensor& a, const Tensor& b, const Tensor& out) const {
  if (out.numel() == 0) {
    return;
  }
  const int64_t k = a.shape()[2];
  if (k == 0) {
    return fill(0.0, out);
  }
  int64_t batch = out.shape()[0];
  int64_t m = out.shape()[1];
  const int64_t n = out.shape()[2];
  Tensor left = a;
  Tensor right = b;
  Batch left_batch(left);
  // One matrix b for the whole batch, and rows of a at equal distances: a single product with more rows.
  if (batch > 1 && Batch(right).stride == 0 && (m == 1 || left_batch.stride == m * left_batch.row_stride)) {
    left = left.as_view({1, batch * m, k}, {0, m == 1 ? left_batch.stride : left_batch.row_stride, left.strides()[2]},
                        left.offset());
    right = right.as_view({1, k, n}, {0, right.strides()[1], right.strides()[2]}, right.offset());
    left_batch = Batch(left);
    m *= batch;
    batch = 1;
  }
  std::optional<BlasMatrix> left_matrix = left_batch.matrix(left.raw());
  if (!left_matrix) {
    left = dense_copy(*this, left);
    left_matrix = Batch(left).matrix(left.raw());
  }
  std::optional<BlasMatrix> right_matrix = Batch(right).matrix(right.raw());
  if (!right_matrix) {
    right = dense_copy(*this, right);
    right_matrix = Batch(right).matrix(right.raw());
  }
  // By columns `out` is its transpose, b^T a^T, n x m.
  multiply({out.dtype(), n, m, k, batch, *right_matrix, *left_matrix, out.mutable_raw(), n, m * n},
           current_stream(out.device()));
}

}  // namespace deltatape::cuda
