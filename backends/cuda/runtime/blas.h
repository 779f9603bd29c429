// Matrix products by cuBLAS, which is loaded when the first one is asked for: linking it would cost every program a
// tenth of a second. The host twin computes the same calls by plain loops.
#pragma once

#include <cstdint>

#include "backends/cuda/runtime/stream.h"
#include "core/dtype.h"

namespace deltatape::cuda {

/// A matrix of a batch, stored by columns: element (i, j) is data[i + j * ld], `stride` elements from one matrix of the
/// batch to the next (0: all share one).
struct BlasMatrix {
  const void* data;
  int64_t ld;
  int64_t stride;
  bool transposed;  // the operand is the transpose of what is stored
};

/// C = op(A) op(B) for each of `batch` matrices: op(A) is m x k, op(B) k x n, and C m x n. One floating-point dtype;
/// f64 is added up in f64, the others in f32, and nothing is rounded to tf32.
struct BlasProduct {
  DType dtype;
  int64_t m;
  int64_t n;
  int64_t k;
  int64_t batch;
  BlasMatrix a;
  BlasMatrix b;
  void* c;
  int64_t ldc;
  int64_t stride_c;
};

/// Throws Error when cuBLAS cannot be loaded or refuses the call.
void multiply(const BlasProduct& product, const Stream& stream);

/// Does what the first product on `stream` would do before it, if there have been products at all: it cannot be done
/// while the stream records.
void prepare_products(const Stream& stream);
/// Gives back what products on `stream` have kept; call it before the stream ends.
void release_products(const Stream& stream) noexcept;

}  // namespace deltatape::cuda
