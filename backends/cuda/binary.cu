// Elementwise functions of two tensors, or of a tensor and a number.
#include "backends/cuda/cuda_backend.h"
#include "backends/cuda/map.h"
#include "backends/elementwise_tables.h"

namespace deltatape::cuda {
namespace {

using Launch = void (*)(Operand a, Operand b, const Tensor& out);

template <class C, class F>
void launch(Operand a, Operand b, const Tensor& out) {
  map_elements<C, C, 2>(F{}, {a, b}, out);
}

template <class C>
Launch launch_of(BinaryKind kind) {
  static constexpr auto kLaunches = elementwise::binary_table([](auto function) -> Launch {
    using F = decltype(function);
    if constexpr (elementwise::kComputesIn<F, C>) {
      return &launch<C, F>;
    } else {
      return nullptr;
    }
  });
  return elementwise::kernel_of(kLaunches, kind, "binary");
}

template <class C>
struct AddScaled {
  C scale;
  DT_HD C operator()(C x, C old) const { return old + scale * x; }
};

}  // namespace

void CudaBackend::binary(BinaryKind kind, const Tensor& a, const Tensor& b, const Tensor& out) const {
  visit_compute_type(out.dtype(), [&](auto tag) { launch_of<decltype(tag)>(kind)(a, b, out); });
}

void CudaBackend::binary_scalar(BinaryKind kind, const Tensor& x, double scalar, bool scalar_first,
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
    const Launch found = launch_of<decltype(tag)>(kind);
    scalar_first ? found(scalar, x, out) : found(x, scalar, out);
  });
}

void CudaBackend::add_scaled(const Tensor& x, double scale, const Tensor& out) const {
  visit_compute_type(out.dtype(), [&](auto tag) {
    using C = decltype(tag);
    map_elements<C, C, 2>(AddScaled<C>{static_cast<C>(scale)}, {x, out}, out);
  });
}

}  // namespace deltatape::cuda
