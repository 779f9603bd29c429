#include <algorithm>
#include <cmath>

#include "autograd/grad_mode.h"
#include "backends/backend.h"
#include "nn/optimizer.h"
#include "ops/convert.h"
#include "ops/creation.h"
#include "ops/inplace.h"

namespace deltatape::nn {

double grad_norm(std::span<const Tensor> parameters) {
  const NoGradGuard guard;
  double squares = 0.0;
  for (const Tensor& parameter : parameters) {
    const Tensor g = parameter.grad();
    if (g.defined()) {
      const Tensor sum = empty({}, {DType::f64, g.device()});
      backend_of(g).sum_of_squares(contiguous(g), sum);
      squares += sum.item();
    }
  }
  return std::sqrt(squares);
}

double clip_grad_norm(std::span<const Tensor> parameters, double max_norm) {
  check(max_norm > 0.0, "clip_grad_norm", "max_norm is {}, expected a number above 0", max_norm);
  const double n = grad_norm(parameters);
  const double factor = max_norm / (n + 1e-6);
  if (!std::isfinite(n) || factor >= 1.0) {
    return n;
  }
  const NoGradGuard guard;
  for (const Tensor& parameter : parameters) {
    Tensor g = parameter.grad();
    if (g.defined()) {
      g = g.detach();
      mul_(g, factor);
    }
  }
  return n;
}

}  // namespace deltatape::nn
