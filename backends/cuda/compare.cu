// Comparisons of two tensors, or of a tensor and a number.
#include "backends/cuda/cuda_backend.h"
#include "backends/cuda/map.h"
#include "backends/elementwise_functions.h"

namespace deltatape::cuda {
namespace {

using Launch = void (*)(Operand a, Operand b, const Tensor& out);

template <class C, class F>
void launch(Operand a, Operand b, const Tensor& out) {
  map_elements<C, bool, 2>(F{}, {a, b}, out);
}

template <class C>
Launch launch_of(CompareKind kind) {
  static constexpr auto kLaunches =
      elementwise::compare_table([](auto function) -> Launch { return &launch<C, decltype(function)>; });
  return kLaunches[static_cast<size_t>(kind)];
}

}  // namespace

void CudaBackend::compare(CompareKind kind, const Tensor& a, const Tensor& b, const Tensor& out) const {
  visit_compute_type(a.dtype(), [&](auto tag) { launch_of<decltype(tag)>(kind)(a, b, out); });
}

void CudaBackend::compare_scalar(CompareKind kind, const Tensor& a, double scalar, const Tensor& out) const {
  visit_compute_type(a.dtype(), [&](auto tag) { launch_of<decltype(tag)>(kind)(a, scalar, out); });
}

}  // namespace deltatape::cuda
