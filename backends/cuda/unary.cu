// Elementwise functions of one tensor.
#include "backends/cuda/cuda_backend.h"
#include "backends/cuda/map.h"
#include "backends/elementwise_tables.h"

namespace deltatape::cuda {
namespace {

using Launch = void (*)(const Tensor& x, const Tensor& out);

template <class C, class F>
void launch(const Tensor& x, const Tensor& out) {
  map_elements<C, C, 1>(F{}, {x}, out);
}

template <class C>
Launch launch_of(UnaryKind kind) {
  static constexpr auto kLaunches = elementwise::unary_table([](auto function) -> Launch {
    using F = decltype(function);
    if constexpr (elementwise::kComputesIn<F, C>) {
      return &launch<C, F>;
    } else {
      return nullptr;
    }
  });
  return elementwise::kernel_of(kLaunches, kind, "unary");
}

}  // namespace

void CudaBackend::unary(UnaryKind kind, const Tensor& x, const Tensor& out) const {
  visit_compute_type(out.dtype(), [&](auto tag) { launch_of<decltype(tag)>(kind)(x, out); });
}

}  // namespace deltatape::cuda
