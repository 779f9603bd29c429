// silu(a) b and its gradients.
#include <cstdint>

#include "backends/cuda/cuda_backend.h"
#include "backends/cuda/dense.h"
#include "backends/cuda/rows.h"
#include "backends/elementwise_functions.h"

namespace deltatape::cuda {
namespace {

// Bytes: two elements read and one written.
template <class T>
struct Swiglu {
  Lines<T> a;
  Lines<T> b;
  Lines<T> out;

  DT_HD void operator()(int64_t line, int64_t i) const {
    Pack<T> gate = a.line(line).pack(i);
    const Pack<T> value = b.line(line).pack(i);
    for (int j = 0; j < kPack<T>; ++j) {
      gate[j] *= elementwise::sigmoid(gate[j]) * value[j];
    }
    out.out_line(line).set_pack(i, gate);
  }
};

// Bytes: three elements read and two written.
template <class T>
struct SwigluBackward {
  Lines<T> a;
  Lines<T> b;
  Lines<T> dy;
  Lines<T> da;  // or null, as the next
  Lines<T> db;

  DT_HD void operator()(int64_t line, int64_t i) const {
    using C = Compute<T>;
    const Pack<T> x = a.line(line).pack(i);
    const Pack<T> upstream = dy.line(line).pack(i);
    Pack<T> s;
    for (int j = 0; j < kPack<T>; ++j) {
      s[j] = elementwise::sigmoid(x[j]);
    }
    if (da) {
      Pack<T> gradient = b.line(line).pack(i);
      for (int j = 0; j < kPack<T>; ++j) {
        gradient[j] *= upstream[j] * (s[j] + x[j] * s[j] * (C(1) - s[j]));
      }
      da.out_line(line).set_pack(i, gradient);
    }
    if (db) {
      Pack<T> gradient;
      for (int j = 0; j < kPack<T>; ++j) {
        gradient[j] = upstream[j] * (x[j] * s[j]);
      }
      db.out_line(line).set_pack(i, gradient);
    }
  }
};

}  // namespace

void CudaBackend::swiglu(const Tensor& a, const Tensor& b, const Tensor& out) const {
  if (out.numel() == 0) {
    return;
  }
  const bool plain = a.is_contiguous() && b.is_contiguous() && out.is_contiguous();
  const auto lines = [plain](const Tensor& x) { return plain ? flat(x) : with_rows(x); };
  const Tensor x = lines(a);
  const Tensor y = lines(b);
  const Tensor to = plain ? flat(out) : out;
  if (!line_layout(to, to.rank() - 1).fits) {
    const Tensor result = empty(out.shape(), out.options());
    swiglu(a, b, result);
    return copy(result, out);
  }
  visit_floating(out.dtype(), [&](auto tag) {
    using T = decltype(tag);
    const Swiglu<T> body{rows_of<T>(x), rows_of<T>(y), rows_of<T>(to)};
    launch_packs<T>(current_stream(out.device()), body.out.layout, body);
  });
}

void CudaBackend::swiglu_backward(const Tensor& a, const Tensor& b, const Tensor& dy, const Tensor& da,
                                  const Tensor& db) const {
  if (a.numel() == 0) {
    return;
  }
  visit_floating(a.dtype(), [&](auto tag) {
    using T = decltype(tag);
    const SwigluBackward<T> body{rows_of<T>(flat(a)), rows_of<T>(flat(b)), rows_of<T>(flat(dy)), rows_of<T>(flat(da)),
                                 rows_of<T>(flat(db))};
    launch_packs<T>(current_stream(a.device()), body.a.layout, body);
  });
}

}  // namespace deltatape::cuda
