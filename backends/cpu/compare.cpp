// Comparisons of two tensors, or of a tensor and a number.
#include <array>

#include "backends/cpu/cpu_backend.h"
#include "backends/cpu/map_rows.h"
#include "backends/elementwise_functions.h"

namespace deltatape::cpu {
namespace {

template <class T>
using CompareRow = void (*)(RowView<T> a, RowView<T> b, bool* out, int64_t count);

template <class T, class F>
void compare_row(RowView<T> a, RowView<T> b, bool* out, int64_t count) {
  const F f{};
  // Plain loops: compilers turn them into vector comparisons with narrowing stores.
  if (a.step == 0) {
    const T value = *a.data;
    for (int64_t i = 0; i < count; ++i) {
      out[i] = f(value, b.data[i * b.step]);
    }
  } else if (b.step == 0) {
    const T value = *b.data;
    for (int64_t i = 0; i < count; ++i) {
      out[i] = f(a.data[i], value);
    }
  } else {
    for (int64_t i = 0; i < count; ++i) {
      out[i] = f(a.data[i], b.data[i]);
    }
  }
}

template <class T>
CompareRow<T> compare_row_of(CompareKind kind) {
  static constexpr auto kRows =
      elementwise::compare_table([](auto function) -> CompareRow<T> { return &compare_row<T, decltype(function)>; });
  return kRows[static_cast<size_t>(kind)];
}

}  // namespace

void CpuBackend::compare(CompareKind kind, const Tensor& a, const Tensor& b, const Tensor& out) const {
  visit_compute_type(a.dtype(), [&](auto tag) {
    using T = decltype(tag);
    map_rows<T, bool, 2>({&a, &b}, out, compare_row_of<T>(kind));
  });
}

void CpuBackend::compare_scalar(CompareKind kind, const Tensor& a, double scalar, const Tensor& out) const {
  visit_compute_type(a.dtype(), [&](auto tag) {
    using T = decltype(tag);
    const CompareRow<T> row = compare_row_of<T>(kind);
    const auto value = static_cast<T>(scalar);
    const RowView<T> number{&value, 0};
    map_rows<T, bool, 1>({&a}, out, [=](RowView<T> view, bool* to, int64_t count) { row(view, number, to, count); });
  });
}

}  // namespace deltatape::cpu
