#include "ops/norm.h"

#include <cmath>
#include <string_view>

#include "autograd/grad_mode.h"
#include "autograd/record.h"
#include "backends/backend.h"
#include "ops/activation_backward.h"
#include "ops/arithmetic.h"
#include "ops/checks.h"
#include "ops/convert.h"
#include "ops/linalg.h"
#include "ops/reduction.h"
#include "ops/unary.h"
#include "ops/views.h"

namespace deltatape {
namespace {

void check_arguments(std::string_view function, const Tensor& x, double eps) {
  check_defined(function, "x", x);
  check_floating(function, "x", x);
  check_rank_at_least(function, "x", x, 1, "[.., D]");
  check(std::isfinite(eps) && eps > 0, function, "eps is {}, expected a number above 0", eps);
}

void check_parameter(std::string_view function, std::string_view argument, const Tensor& parameter, const Tensor& x) {
  if (parameter.defined()) {
    check_same_dtype(function, argument, parameter, x);
    check_same_device(function, argument, parameter, x);
    check_shape(function, argument, parameter, {x.shape().back()}, "[D]");
  }
}

// What scale_rows divides by: the mean of squares, or their sum.
enum class Average : uint8_t { mean, sum };

// The gradients of y = x r w with r = (a sum(x^2) + eps)^-1/2, a = 1 / D or 1:
//   dx = r (dy w - x (a r^2 sum(dy w x))),  dw = sum over rows of dy x r.
// `x`, `weight`, `dy` and r are f32 or f64.
Gradients scaled_rows_gradients(const RuleContext& c, const Tensor& x, const Tensor& weight, const Tensor& r,
                                const Tensor& dy, double a) {
  const Tensor product = mul(dy, x);
  Gradients gradients(2);
  if (c.needs_grad(0)) {
    const Tensor dot = weight.defined() ? matmul(product, unsqueeze(weight, 1)) : sum(product, {-1}, true);
    const Tensor direct = weight.defined() ? mul(dy, weight) : dy;
    gradients[0] = mul(sub(direct, mul(x, mul(mul(dot, square(r)), a))), r);
  }
  if (weight.defined() && c.needs_grad(1)) {
    const int64_t columns = x.shape().back();
    const Tensor rows = reshape(product, {r.numel(), columns});
    gradients[1] = reshape(matmul(reshape(r, {1, r.numel()}), rows), {columns});
  }
  return gradients;
}

// The same from tensors of any dtype, for a second derivative: r depends on x here.
Gradients recorded_gradients(const RuleContext& c, const Tensor& x, const Tensor& weight, DType computed, double eps,
                             Average average) {
  const double a = average == Average::sum ? 1.0 : 1.0 / static_cast<double>(x.shape().back());
  const Tensor wide_x = to(x, computed);
  const Tensor r = rsqrt(add(mul(sum(square(wide_x), {-1}, true), a), eps));
  Gradients gradients =
      scaled_rows_gradients(c, wide_x, weight.defined() ? to(weight, computed) : weight, r, to(c.grad(0), computed), a);
  for (Tensor& gradient : gradients) {
    gradient = gradient.defined() ? to(gradient, x.dtype()) : gradient;
  }
  return gradients;
}

// Like x where it is wanted, else undefined.
Tensor gradient_like(const RuleContext& c, size_t input, const Tensor& x) {
  return c.needs_grad(input) ? empty(x.shape(), x.options()) : Tensor();
}

// The same in one kernel.
Gradients fused_gradients(const RuleContext& c, const Tensor& x, const Tensor& weight, const Tensor& rstd,
                          Average average) {
  Gradients gradients{gradient_like(c, 0, x), weight.defined() ? gradient_like(c, 1, weight) : Tensor()};
  backend_of(x).rms_norm_backward(contiguous(x), weight, rstd, contiguous(c.grad(0)), average == Average::sum,
                                  gradients[0], gradients[1]);
  return gradients;
}

// x / sqrt(average of squares + eps) * weight over the last dimension.
Tensor scale_rows(std::string_view name, const Tensor& x, const Tensor& weight, double eps, Average average) {
  Shape row_shape = x.shape();
  row_shape[row_shape.rank() - 1] = 1;
  const DType wide = promote(x.dtype(), DType::f32);
  Tensor out = empty(x.shape(), x.options());
  const Tensor rstd = empty(row_shape, wide, x.device());
  backend_of(x).rms_norm(x, weight, eps, average == Average::sum, out, rstd);
  return record(name, std::move(out), {x, weight},
                [x = Saved(x), weight = Saved(weight), rstd, eps, average](const RuleContext& c) {
                  return grad_enabled() ? recorded_gradients(c, x, weight, rstd.dtype(), eps, average)
                                        : fused_gradients(c, x, weight, rstd, average);
                });
}

// gate -> its activation, as a differentiable op.
Tensor activated(GateActivation activation, const Tensor& gate) {
  return activation == GateActivation::swish ? silu(gate) : sigmoid(gate);
}

// The gradients of rms_norm(x) activation(gate), made of ops, so that they have gradients themselves.
Gradients recorded_gated_gradients(const RuleContext& c, const Tensor& x, const Tensor& weight, const Tensor& gate,
                                   GateActivation activation, DType computed, double eps) {
  const double a = 1.0 / static_cast<double>(x.shape().back());
  const Tensor wide_x = to(x, computed);
  const Tensor z = to(gate, computed);
  const Tensor w = weight.defined() ? to(weight, computed) : weight;
  const Tensor dy = to(c.grad(0), computed);
  const Tensor r = rsqrt(add(mul(sum(square(wide_x), {-1}, true), a), eps));
  const Tensor factor = activated(activation, z);
  Gradients gradients = scaled_rows_gradients(c, wide_x, w, r, mul(dy, factor), a);
  gradients.resize(3);
  if (c.needs_grad(2)) {
    const Tensor normed = w.defined() ? mul(mul(wide_x, r), w) : mul(wide_x, r);
    const Tensor upstream = mul(dy, normed);
    gradients[2] =
        activation == GateActivation::swish ? silu_backward(z, upstream) : sigmoid_backward(factor, upstream);
  }
  for (Tensor& gradient : gradients) {
    gradient = gradient.defined() ? to(gradient, x.dtype()) : gradient;
  }
  return gradients;
}

}  // namespace

Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps) {
  check_arguments("rms_norm", x, eps);
  check_parameter("rms_norm", "weight", weight, x);
  return scale_rows("rms_norm", x, weight, eps, Average::mean);
}

Tensor gated_rms_norm(const Tensor& x, const Tensor& weight, const Tensor& gate, GateActivation activation,
                      double eps) {
  constexpr std::string_view kName = "gated_rms_norm";
  check_arguments(kName, x, eps);
  check_parameter(kName, "weight", weight, x);
  check_defined(kName, "gate", gate);
  check_same_dtype(kName, "gate", gate, x);
  check_same_device(kName, "gate", gate, x);
  check_shape(kName, "gate", gate, x.shape(), "x's shape");
  const bool swish = activation == GateActivation::swish;
  Shape row_shape = x.shape();
  row_shape[row_shape.rank() - 1] = 1;
  Tensor out = empty(x.shape(), x.options());
  const Tensor rstd = empty(row_shape, promote(x.dtype(), DType::f32), x.device());
  backend_of(x).gated_rms_norm(x, weight, gate, swish, eps, out, rstd);
  return record(
      kName, std::move(out), {x, weight, gate},
      [x = Saved(x), weight = Saved(weight), gate = Saved(gate), rstd, activation, swish, eps](const RuleContext& c) {
        const Tensor& value = x;
        const Tensor& gains = weight;
        const Tensor& z = gate;
        if (grad_enabled()) {
          return recorded_gated_gradients(c, value, gains, z, activation, rstd.dtype(), eps);
        }
        Gradients gradients{gradient_like(c, 0, value), gains.defined() ? gradient_like(c, 1, gains) : Tensor(),
                            gradient_like(c, 2, z)};
        backend_of(value).gated_rms_norm_backward(contiguous(value), gains, contiguous(z), swish, rstd,
                                                  contiguous(c.grad(0)), gradients[0], gradients[1], gradients[2]);
        return gradients;
      });
}

Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps) {
  check_arguments("layer_norm", x, eps);
  check_parameter("layer_norm", "weight", weight, x);
  check_parameter("layer_norm", "bias", bias, x);
  const DType wide = promote(x.dtype(), DType::f32);
  const auto widened = [wide](const Tensor& parameter) {
    return parameter.defined() ? to(parameter, wide) : parameter;
  };
  const Tensor wide_x = to(x, wide);
  // The variance is the mean square of the centred row.
  const Tensor centred = sub(wide_x, mean(wide_x, {-1}, true));
  const Tensor scaled = scale_rows("layer_norm", centred, widened(weight), eps, Average::mean);
  return to(bias.defined() ? add(scaled, widened(bias)) : scaled, x.dtype());
}

Tensor l2_normalize(const Tensor& x, double eps) {
  check_arguments("l2_normalize", x, eps);
  return scale_rows("l2_normalize", x, Tensor(), eps, Average::sum);
}

}  // namespace deltatape
