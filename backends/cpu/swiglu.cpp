// silu(a) b and its gradients, in one pass each.
#include <algorithm>
#include <cstdint>

#include "backends/cpu/convert_rows.h"
#include "backends/cpu/cpu_backend.h"
#include "backends/cpu/map_rows.h"
#include "backends/cpu/vector_loop.h"
#include "backends/elementwise_functions.h"

namespace deltatape::cpu {
namespace {

constexpr int64_t kBlock = 512;

// da and db may be null: not wanted.
template <class T>
void backward_rows(const T* a, const T* b, const T* dy, T* da, T* db, int64_t count) {
  using V = Vec<T>;
  for_each_vector<T>(count, [=](int64_t i, auto lanes) {
    const V x = lanes.load(a + i);
    const V s = elementwise::sigmoid(x);
    const V silu = x * s;
    const V upstream = lanes.load(dy + i);
    if (da != nullptr) {
      lanes.store(upstream * lanes.load(b + i) * (s + silu * (V(1.0) - s)), da + i);
    }
    if (db != nullptr) {
      lanes.store(upstream * silu, db + i);
    }
  });
}

template <class T>
void backward(const Tensor& a, const Tensor& b, const Tensor& dy, const Tensor& da, const Tensor& db) {
  const DType dtype = a.dtype();
  const auto size = static_cast<int64_t>(size_of(dtype));
  const ConvertRow load = convert_row(dtype, dtype_of<T>);
  const ConvertRow store = convert_row(dtype_of<T>, dtype);
  const auto at = [size](const Tensor& x, int64_t i) { return static_cast<char*>(x.mutable_raw()) + i * size; };
  const int64_t count = a.numel();
  parallel_ranges((count + kBlock - 1) / kBlock, count * 4, [&](int64_t begin, int64_t end) {
    alignas(64) T buffers[5][static_cast<size_t>(kBlock)];
    for (int64_t first = begin * kBlock; first < std::min(count, end * kBlock); first += kBlock) {
      const int64_t length = std::min(kBlock, count - first);
      if (dtype == dtype_of<T>) {
        const auto row = [&](const Tensor& x) { return x.defined() ? reinterpret_cast<T*>(at(x, first)) : nullptr; };
        backward_rows<T>(row(a), row(b), row(dy), row(da), row(db), length);
        continue;
      }
      const Tensor* inputs[3] = {&a, &b, &dy};
      for (int64_t i = 0; i < 3; ++i) {
        load(at(*inputs[i], first), size, reinterpret_cast<char*>(buffers[i]), sizeof(T), length);
      }
      backward_rows<T>(buffers[0], buffers[1], buffers[2], buffers[3], buffers[4], length);
      if (da.defined()) {
        store(reinterpret_cast<const char*>(buffers[3]), sizeof(T), at(da, first), size, length);
      }
      if (db.defined()) {
        store(reinterpret_cast<const char*>(buffers[4]), sizeof(T), at(db, first), size, length);
      }
    }
  });
}

}  // namespace

void CpuBackend::swiglu(const Tensor& a, const Tensor& b, const Tensor& out) const {
  const auto rows = [&](auto tag) {
    using T = decltype(tag);
    map_rows<T, T, 2>({&a, &b}, out, [](RowView<T> x, RowView<T> y, T* to, int64_t count) {
      map_row([](auto gate, auto value) { return gate * elementwise::sigmoid(gate) * value; }, x, y, to, count);
    });
  };
  out.dtype() == DType::f64 ? rows(double{}) : rows(float{});
}

void CpuBackend::swiglu_backward(const Tensor& a, const Tensor& b, const Tensor& dy, const Tensor& da,
                                 const Tensor& db) const {
  a.dtype() == DType::f64 ? backward<double>(a, b, dy, da, db) : backward<float>(a, b, dy, da, db);
}

}  // namespace deltatape::cpu
