// Elementwise functions of one tensor.
#include <array>

#include "backends/cpu/cpu_backend.h"
#include "backends/cpu/map_rows.h"
#include "backends/elementwise_tables.h"

namespace deltatape::cpu {
namespace {

template <class T>
using UnaryRow = void (*)(RowView<T> x, T* out, int64_t count);

template <class T, class F>
void unary_row(RowView<T> x, T* out, int64_t count) {
  map_row(F{}, x, out, count);
}

template <class T>
UnaryRow<T> unary_row_of(UnaryKind kind) {
  static constexpr auto kRows = elementwise::unary_table([](auto function) -> UnaryRow<T> {
    using F = decltype(function);
    if constexpr (elementwise::kComputesIn<F, T>) {
      return &unary_row<T, F>;
    } else {
      return nullptr;
    }
  });
  return elementwise::kernel_of(kRows, kind, "unary");
}

}  // namespace

void CpuBackend::unary(UnaryKind kind, const Tensor& x, const Tensor& out) const {
  visit_compute_type(out.dtype(), [&](auto tag) {
    using T = decltype(tag);
    map_rows<T, T, 1>({&x}, out, unary_row_of<T>(kind));
  });
}

}  // namespace deltatape::cpu
