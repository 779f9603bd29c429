// Products of the twin: what cuBLAS is documented to do with a call, refusals included.
#include "backends/cuda/runtime/blas.h"

#include <algorithm>

#include "backends/cuda/element.h"
#include "backends/cuda/host/submit.h"
#include "core/error.h"

namespace deltatape::cuda {
namespace {

template <class T>
Compute<T> element(const BlasMatrix& matrix, int64_t entry, int64_t i, int64_t j) {
  const auto* data = static_cast<const T*>(matrix.data) + entry * matrix.stride;
  return widen(matrix.transposed ? data[j + i * matrix.ld] : data[i + j * matrix.ld]);
}

template <class T>
void multiply_as(const BlasProduct& p) {
  for (int64_t entry = 0; entry < p.batch; ++entry) {
    T* c = static_cast<T*>(p.c) + entry * p.stride_c;
    for (int64_t j = 0; j < p.n; ++j) {
      for (int64_t i = 0; i < p.m; ++i) {
        Compute<T> sum{};
        for (int64_t k = 0; k < p.k; ++k) {
          sum += element<T>(p.a, entry, i, k) * element<T>(p.b, entry, k, j);
        }
        c[i + j * p.ldc] = narrow<T>(sum);
      }
    }
  }
}

}  // namespace

void multiply(const BlasProduct& product, const Stream& stream) {
  const int64_t a_rows = product.a.transposed ? product.k : product.m;
  const int64_t b_rows = product.b.transposed ? product.n : product.k;
  check(product.m >= 0 && product.n >= 0 && product.k >= 0 && product.batch >= 0 &&
            product.a.ld >= std::max(a_rows, int64_t{1}) && product.b.ld >= std::max(b_rows, int64_t{1}) &&
            product.ldc >= std::max(product.m, int64_t{1}),
        "cublasGemmStridedBatchedEx", "an unsupported value or parameter was passed to the function");
  host::submit(stream, Place::here(),
               [product] { visit_floating(product.dtype, [&](auto tag) { multiply_as<decltype(tag)>(product); }); });
}

void prepare_products(const Stream& /*stream*/) {}
void release_products(const Stream& /*stream*/) noexcept {}

}  // namespace deltatape::cuda
