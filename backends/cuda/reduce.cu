// Sums, products and extremes over any set of dimensions.
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "backends/cuda/cuda_backend.h"
#include "backends/cuda/reduction.h"
#include "backends/reduce_identity.h"

namespace deltatape::cuda {
namespace {

/// Where results go, whatever their dtype.
struct Results {
  void* data;
  DType dtype;

  template <class C>
  DT_HD void store(C value, int64_t i) const {
    switch (dtype) {
      case DType::f32:
        static_cast<float*>(data)[i] = static_cast<float>(value);
        return;
      case DType::f64:
        static_cast<double*>(data)[i] = static_cast<double>(value);
        return;
      case DType::bf16:
        static_cast<BFloat16*>(data)[i] = narrow<BFloat16>(static_cast<float>(value));
        return;
      case DType::f16:
        static_cast<Float16*>(data)[i] = narrow<Float16>(static_cast<float>(value));
        return;
      case DType::i64:
        static_cast<int64_t*>(data)[i] = static_cast<int64_t>(value);
        return;
      case DType::i32:
        static_cast<int32_t*>(data)[i] = static_cast<int32_t>(static_cast<int64_t>(value));
        return;
      case DType::boolean:
        static_cast<bool*>(data)[i] = value != C(0);
        return;
    }
  }
};

/// op over the pack's first `count` elements, as a tree: what is missing is `none`.
template <class T, class C, class Op>
DT_HD C tree(const Pack<T>& pack, int64_t count, C none, Op op) {
  C v[kPack<T>];
  for (int j = 0; j < kPack<T>; ++j) {
    v[j] = j < count ? static_cast<C>(pack[j]) : none;
  }
  for (int width = kPack<T> / 2; width > 0; width /= 2) {
    for (int j = 0; j < width; ++j) {
      v[j] = op(v[j], v[j + width]);
    }
  }
  return v[0];
}

/// A pack is added up in f32 (or i64), packs in f64.
template <class T>
struct SumOf {
  using Total = std::conditional_t<std::is_same_v<T, int64_t>, int64_t, double>;
  Results results;

  [[nodiscard]] DT_HD Total none() const { return Total(0); }
  [[nodiscard]] DT_HD Total of(const Pack<T>& pack, int64_t /*first*/, int64_t count) const {
    return static_cast<Total>(tree(pack, count, Compute<T>(0), Add{}));
  }
  [[nodiscard]] DT_HD Total both(Total a, Total b) const { return a + b; }
  DT_HD void store(Total total, int64_t line) const { results.store(total, line); }
};

/// Sum of f64 terms with the rounding errors kept (Knuth's two-sum), so that the number of terms does not matter.
struct Compensated {
  double sum;
  double error;
};
template <>
struct SumOf<double> {
  using Total = Compensated;
  Results results;

  [[nodiscard]] DT_HD Total none() const { return {0.0, 0.0}; }
  [[nodiscard]] DT_HD Total of(const Pack<double>& pack, int64_t /*first*/, int64_t count) const {
    return both({pack[0], 0.0}, {count > 1 ? pack[1] : 0.0, 0.0});
  }
  [[nodiscard]] DT_HD Total both(Total a, Total b) const {
    const double sum = a.sum + b.sum;
    const double taken = sum - a.sum;
    const double error = (a.sum - (sum - taken)) + (b.sum - taken);
    return {sum, (a.error + b.error) + error};
  }
  DT_HD void store(Total total, int64_t line) const {
    results.store(total.sum - total.sum == 0.0 ? total.sum + total.error : total.sum, line);  // infinite: as it is
  }
};

/// Products are gathered in f64, where they hardly ever leave the range on the way, or i64.
template <class T>
struct ProductOf {
  using Total = T;
  Results results;

  struct Multiply {
    DT_HD T operator()(T a, T b) const { return a * b; }
  };
  [[nodiscard]] DT_HD Total none() const { return T(1); }
  [[nodiscard]] DT_HD Total of(const Pack<T>& pack, int64_t /*first*/, int64_t count) const {
    return tree(pack, count, T(1), Multiply{});
  }
  [[nodiscard]] DT_HD Total both(Total a, Total b) const { return a * b; }
  DT_HD void store(Total total, int64_t line) const { results.store(total, line); }
};

/// NaN wins.
template <class C>
struct Further {
  bool largest;
  DT_HD C operator()(C a, C b) const {
    const bool keep = a != a || (largest ? a > b : a < b);
    return keep ? a : b;  // NaN in b: neither comparison holds
  }
};
template <class T>
struct ExtremeOf {
  using Total = Compute<T>;
  Results results;
  bool largest;
  Total identity;

  [[nodiscard]] DT_HD Total none() const { return identity; }
  [[nodiscard]] DT_HD Total of(const Pack<T>& pack, int64_t /*first*/, int64_t count) const {
    return tree(pack, count, identity, Further<Total>{largest});
  }
  [[nodiscard]] DT_HD Total both(Total a, Total b) const { return Further<Total>{largest}(a, b); }
  DT_HD void store(Total total, int64_t line) const { results.store(total, line); }
};

template <class C>
C extreme_identity(bool largest) {
  using Limits = std::numeric_limits<C>;
  if constexpr (Limits::has_infinity) {
    return largest ? -Limits::infinity() : Limits::infinity();
  } else {
    return largest ? Limits::min() : Limits::max();
  }
}

/// A view of x in which the reduced dimensions are one, the last; a dense copy where they do not merge, or the others
/// not into two.
Tensor with_one_reduced_dimension(const Backend& backend, const Tensor& x, const Tensor& out) {
  Shape kept;
  Strides kept_strides;
  Shape reduced;
  Strides reduced_strides;
  for (int dim = 0; dim < x.rank(); ++dim) {
    const int64_t size = x.shape()[dim];
    if (size == 1) {
      continue;
    }
    (out.shape()[dim] != 1 ? kept : reduced).push_back(size);
    (out.shape()[dim] != 1 ? kept_strides : reduced_strides).push_back(x.strides()[dim]);
  }
  bool merges = true;
  for (int dim = 0; dim + 1 < reduced.rank(); ++dim) {
    merges = merges && reduced_strides[dim] == reduced_strides[dim + 1] * reduced[dim + 1];
  }
  if (merges) {
    Shape shape = kept;
    Strides strides = kept_strides;
    shape.push_back(reduced.numel());
    strides.push_back(reduced.empty() ? 1 : reduced_strides.back());
    const Tensor view = x.as_view(shape, strides, x.offset());
    if (line_layout(view, view.rank() - 1).fits) {
      return view;
    }
  }
  Shape order = kept;
  Strides order_strides = kept_strides;
  for (int dim = 0; dim < reduced.rank(); ++dim) {
    order.push_back(reduced[dim]);
    order_strides.push_back(reduced_strides[dim]);
  }
  const Tensor dense = empty(order, x.options());
  backend.copy(x.as_view(order, order_strides, x.offset()), dense);
  return dense.as_view({kept.numel(), reduced.numel()}, {reduced.numel(), 1}, 0);
}

template <class T, class Reducer>
void reduce_view(const Stream& stream, const Tensor& view, const Reducer& reducer) {
  reduce_lines(stream, rows_of<T>(view), reducer);
}

/// What x is reduced as: rare dtypes are converted first.
DType computed_dtype(ReduceKind kind, DType dtype) {
  if (!is_floating(dtype)) {
    return DType::i64;
  }
  return kind == ReduceKind::prod ? DType::f64 : dtype;
}

template <class F>
void visit_floating_or_i64(DType dtype, F&& f) {
  dtype == DType::i64 ? f(int64_t{}) : visit_floating(dtype, f);
}

}  // namespace

void CudaBackend::reduce(ReduceKind kind, const Tensor& x, const Tensor& out) const {
  if (out.numel() == 0) {
    return;
  }
  if (x.numel() == 0) {
    return fill(identity_of(kind), out);
  }
  if (!out.is_contiguous()) {
    const Tensor dense = empty(out.shape(), out.options());
    reduce(kind, x, dense);
    return copy(dense, out);
  }
  const Stream stream = current_stream(x.device());
  const Tensor view = with_one_reduced_dimension(*this, converted(x, computed_dtype(kind, x.dtype())), out);
  const Results results{out.mutable_raw(), out.dtype()};
  if (kind == ReduceKind::prod) {
    view.dtype() == DType::i64 ? reduce_view<int64_t>(stream, view, ProductOf<int64_t>{results})
                               : reduce_view<double>(stream, view, ProductOf<double>{results});
    return;
  }
  visit_floating_or_i64(view.dtype(), [&](auto tag) {
    using T = decltype(tag);
    if (kind == ReduceKind::sum) {
      reduce_view<T>(stream, view, SumOf<T>{results});
    } else {
      const bool largest = kind == ReduceKind::max;
      reduce_view<T>(stream, view, ExtremeOf<T>{results, largest, extreme_identity<Compute<T>>(largest)});
    }
  });
}

namespace {

/// The first largest (or smallest) element; NaN comes before everything.
template <class T>
struct PlaceOf {
  struct Total {
    Compute<T> value;
    int64_t place;  // below 0: nothing yet
  };
  int64_t* out;
  bool largest;

  [[nodiscard]] DT_HD Total none() const { return {Compute<T>(0), -1}; }
  [[nodiscard]] DT_HD Total of(const Pack<T>& pack, int64_t first, int64_t count) const {
    Total best{pack[0], first};
    for (int j = 1; j < kPack<T>; ++j) {
      best = j < count ? both(best, {pack[j], first + j}) : best;
    }
    return best;
  }
  [[nodiscard]] DT_HD Total both(Total a, Total b) const {
    const bool a_nan = a.value != a.value;
    const bool b_nan = b.value != b.value;
    const bool equal = (a_nan && b_nan) || a.value == b.value;
    const bool ahead = a_nan || (!b_nan && (largest ? a.value > b.value : a.value < b.value));
    const bool keep = b.place < 0 || (a.place >= 0 && (equal ? a.place < b.place : ahead));
    return {keep ? a.value : b.value, keep ? a.place : b.place};
  }
  DT_HD void store(Total total, int64_t line) const { out[line] = total.place; }
};

}  // namespace

void CudaBackend::arg_reduce(bool largest, const Tensor& x, int dim, const Tensor& out) const {
  if (out.numel() == 0) {
    return;
  }
  if (!out.is_contiguous()) {
    const Tensor dense = empty(out.shape(), out.options());
    arg_reduce(largest, x, dim, dense);
    return copy(dense, out);
  }
  const Tensor wide = converted(x, is_floating(x.dtype()) ? x.dtype() : DType::i64);
  const Tensor lines = with_lines(wide, dim);
  auto* places = static_cast<int64_t*>(out.mutable_raw());
  visit_floating_or_i64(lines.dtype(), [&](auto tag) {
    using T = decltype(tag);
    reduce_lines(current_stream(x.device()), lines_of<T>(lines, dim), PlaceOf<T>{places, largest});
  });
}

}  // namespace deltatape::cuda
