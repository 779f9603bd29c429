#include <algorithm>
#include <cmath>
#include <numeric>
#include <type_traits>
#include <vector>

#include "backends/cpu/cpu_backend.h"
#include "backends/cpu/float_rows.h"
#include "backends/cpu/strided_loop.h"
#include "backends/cpu/thread_split.h"

namespace deltatape::cpu {
namespace {

template <class T>
bool is_nan(T x) {
  if constexpr (std::is_floating_point_v<T>) {
    return std::isnan(x);
  } else {
    return false;
  }
}

// Whether entry `a` comes before entry `b`: larger values first, NaN before everything, then the lower index.
template <class T>
struct ComesFirst {
  const T* values;
  bool operator()(int64_t a, int64_t b) const {
    const T x = values[a];
    const T y = values[b];
    if (is_nan(x) != is_nan(y)) {
      return is_nan(x);
    }
    return x > y || (!(x < y) && a < b);
  }
};

}  // namespace

void CpuBackend::topk(const Tensor& x, int64_t k, const Tensor& values, const Tensor& indices) const {
  if (values.numel() == 0) {
    return;
  }
  const int64_t size = x.shape().back();
  const int64_t stride = x.strides().back();
  Shape row_shape = x.shape();
  Strides row_strides = x.strides();
  row_shape.erase(x.rank() - 1);
  row_strides.erase(x.rank() - 1);
  visit_dtype(x.dtype(), [&](auto tag) {
    using T = decltype(tag);
    using C = ComputeType<T>;
    const auto* in = static_cast<const T*>(x.raw());
    auto* out = static_cast<T*>(values.mutable_raw());
    auto* positions = static_cast<int64_t*>(indices.mutable_raw());
    parallel_for(row_shape.numel(), static_cast<double>(size) * 2.0, [&](int64_t row) {
      Scratch<C> wide(size);
      Scratch<int64_t> order(size);
      const T* first = in + StridedPosition<1>(row_shape, {&row_strides}, row).offset(0);
      load_row(first, stride, size, wide.data());
      std::iota(order.data(), order.data() + size, int64_t{0});
      std::partial_sort(order.data(), order.data() + k, order.data() + size, ComesFirst<C>{wide.data()});
      for (int64_t i = 0; i < k; ++i) {
        out[row * k + i] = first[order.data()[i] * stride];
        positions[row * k + i] = order.data()[i];
      }
    });
  });
}

}  // namespace deltatape::cpu
