#include "ops/activation_backward.h"

#include <array>
#include <cmath>
#include <numbers>
#include <utility>

#include "autograd/record.h"
#include "backends/backend.h"
#include "ops/arithmetic.h"
#include "ops/checks.h"
#include "ops/unary.h"

namespace deltatape {
namespace {

// `slope(x, dy)` is f'(x) dy; `curvature(x)` is f''(x), or d f' / d y where the slope is written in the output y.
template <class Curvature>
Tensor slope_times(std::string_view name, BinaryKind kind, Tensor (*slope)(const Tensor&, const Tensor&),
                   const Tensor& x, const Tensor& dy, Curvature curvature) {
  check_defined(name, "x", x);
  check_defined(name, "dy", dy);
  check_floating(name, "x", x);
  check_same_device(name, "dy", dy, x);
  check_same_dtype(name, "dy", dy, x);
  check_shape(name, "dy", dy, x.shape());
  Tensor out = empty(x.shape(), x.options());
  backend_of(x).binary(kind, x, dy, out);
  return record(name, std::move(out), std::array{x, dy},
                [slope, curvature, x = Saved(x), dy = Saved(dy)](const RuleContext& c) {
                  return Gradients{c.needs_grad(0) ? mul(mul(c.grad(0), dy), curvature(x.get())) : Tensor(),
                                   c.needs_grad(1) ? slope(x, c.grad(0)) : Tensor()};
                });
}

}  // namespace

Tensor sigmoid_backward(const Tensor& y, const Tensor& dy) {
  return slope_times("sigmoid_backward", BinaryKind::sigmoid_backward, sigmoid_backward, y, dy,
                     [](const Tensor& s) { return sub(1.0, mul(s, 2.0)); });
}

Tensor tanh_backward(const Tensor& y, const Tensor& dy) {
  return slope_times("tanh_backward", BinaryKind::tanh_backward, tanh_backward, y, dy,
                     [](const Tensor& t) { return mul(t, -2.0); });
}

Tensor silu_backward(const Tensor& x, const Tensor& dy) {
  return slope_times("silu_backward", BinaryKind::silu_backward, silu_backward, x, dy, [](const Tensor& t) {
    const Tensor s = sigmoid(t);  // s (1 - s) (2 + x (1 - 2 s))
    return mul(mul(s, sub(1.0, s)), add(mul(t, sub(1.0, mul(s, 2.0))), 2.0));
  });
}

Tensor gelu_backward(const Tensor& x, const Tensor& dy) {
  return slope_times("gelu_backward", BinaryKind::gelu_backward, gelu_backward, x, dy, [](const Tensor& t) {
    const Tensor x2 = square(t);  // phi(x) (2 - x^2)
    const double density_at_zero = std::numbers::inv_sqrtpi / std::numbers::sqrt2;
    return mul(mul(exp(mul(x2, -0.5)), density_at_zero), sub(2.0, x2));
  });
}

Tensor softplus_backward(const Tensor& x, const Tensor& dy) {
  return slope_times("softplus_backward", BinaryKind::softplus_backward, softplus_backward, x, dy, [](const Tensor& t) {
    const Tensor s = sigmoid(t);
    return mul(s, sub(1.0, s));
  });
}

}  // namespace deltatape
