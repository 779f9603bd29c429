// Elementwise functions of one tensor.
#include <array>

#include "backends/cpu/cpu_backend.h"
#include "backends/cpu/map_rows.h"
#include "backends/elementwise_functions.h"
#include "core/error.h"

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
    if constexpr (std::is_floating_point_v<T> || std::is_base_of_v<elementwise::TakesIntegers, F>) {
      return &unary_row<T, F>;
    } else {
      return nullptr;
    }
  });
  const UnaryRow<T> row = kRows[static_cast<size_t>(kind)];
  check(row != nullptr, "unary", "function {} has an integer dtype, expected a floating-point one",
        static_cast<int>(kind));
  return row;
}

}  // namespace

void CpuBackend::unary(UnaryKind kind, const Tensor& x, const Tensor& out) const {
  visit_compute_type(out.dtype(), [&](auto tag) {
    using T = decltype(tag);
    map_rows<T, T, 1>({&x}, out, unary_row_of<T>(kind));
  });
}

}  // namespace deltatape::cpu
