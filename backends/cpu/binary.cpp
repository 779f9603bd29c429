// Elementwise functions of two tensors, or of a tensor and a number.
#include <array>

#include "backends/cpu/cpu_backend.h"
#include "backends/cpu/map_rows.h"
#include "backends/elementwise_tables.h"

namespace deltatape::cpu {
namespace {

template <class T>
using BinaryRow = void (*)(RowView<T> a, RowView<T> b, T* out, int64_t count);

template <class T, class F>
void binary_row(RowView<T> a, RowView<T> b, T* out, int64_t count) {
  map_row(F{}, a, b, out, count);
}

template <class T>
BinaryRow<T> binary_row_of(BinaryKind kind) {
  static constexpr auto kRows = elementwise::binary_table([](auto function) -> BinaryRow<T> {
    using F = decltype(function);
    if constexpr (elementwise::kComputesIn<F, T>) {
      return &binary_row<T, F>;
    } else {
      return nullptr;
    }
  });
  return elementwise::kernel_of(kRows, kind, "binary");
}

}  // namespace

void CpuBackend::binary(BinaryKind kind, const Tensor& a, const Tensor& b, const Tensor& out) const {
  visit_compute_type(out.dtype(), [&](auto tag) {
    using T = decltype(tag);
    map_rows<T, T, 2>({&a, &b}, out, binary_row_of<T>(kind));
  });
}

void CpuBackend::binary_scalar(BinaryKind kind, const Tensor& x, double scalar, bool scalar_first,
                               const Tensor& out) const {
  // The powers that programs use most are exact as products and quotients, and many times quicker.
  if (kind == BinaryKind::pow && !scalar_first && is_floating(x.dtype())) {
    if (scalar == 2.0) {
      return unary(UnaryKind::square, x, out);
    }
    if (scalar == -1.0) {
      return unary(UnaryKind::reciprocal, x, out);
    }
    if (scalar == 1.0) {
      return copy(x, out);
    }
  }
  visit_compute_type(out.dtype(), [&](auto tag) {
    using T = decltype(tag);
    const BinaryRow<T> row = binary_row_of<T>(kind);
    const auto value = static_cast<T>(scalar);
    const RowView<T> number{&value, 0};
    map_rows<T, T, 1>({&x}, out, [=](RowView<T> view, T* to, int64_t count) {
      scalar_first ? row(number, view, to, count) : row(view, number, to, count);
    });
  });
}

void CpuBackend::add_scaled(const Tensor& x, double scale, const Tensor& out) const {
  visit_compute_type(out.dtype(), [&](auto tag) {
    using T = decltype(tag);
    const auto factor = Lanes<T>::broadcast(static_cast<T>(scale));
    map_rows<T, T, 2>({&x, &out}, out, [factor](RowView<T> from, RowView<T> old, T* to, int64_t count) {
      map_row([factor](auto a, auto b) { return b + factor * a; }, from, old, to, count);
    });
  });
}

}  // namespace deltatape::cpu
