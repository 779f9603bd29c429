// Elementwise functions of one tensor.
#include "backends/cuda/cuda_backend.h"
#include "backends/cuda/map.h"
#include "backends/elementwise_functions.h"
#include "core/error.h"

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
    if constexpr (std::is_floating_point_v<C> || std::is_base_of_v<elementwise::TakesIntegers, F>) {
      return &launch<C, F>;
    } else {
      return nullptr;
    }
  });
  const Launch found = kLaunches[static_cast<size_t>(kind)];
  check(found != nullptr, "unary", "function {} has an integer dtype, expected a floating-point one",
        static_cast<int>(kind));
  return found;
}

}  // namespace

void CudaBackend::unary(UnaryKind kind, const Tensor& x, const Tensor& out) const {
  visit_compute_type(out.dtype(), [&](auto tag) { launch_of<decltype(tag)>(kind)(x, out); });
}

}  // namespace deltatape::cuda
