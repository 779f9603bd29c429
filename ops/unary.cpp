#include "ops/unary.h"

#include <numbers>
#include <utility>

#include "autograd/record.h"
#include "backends/backend.h"
#include "ops/activation_backward.h"
#include "ops/arithmetic.h"
#include "ops/checks.h"
#include "ops/comparison.h"
#include "ops/creation.h"

namespace deltatape {
namespace {

template <class Rule>
Tensor apply(std::string_view name, UnaryKind kind, const Tensor& x, Rule&& rule) {
  Tensor out = empty(x.shape(), x.options());
  backend_of(x).unary(kind, x, out);
  return record(name, std::move(out), std::span(&x, 1), std::forward<Rule>(rule));
}

// A function of floating-point numbers.
template <class Rule>
Tensor floating(std::string_view name, UnaryKind kind, const Tensor& x, Rule&& rule) {
  check_defined(name, "x", x);
  check_floating(name, "x", x);
  return apply(name, kind, x, std::forward<Rule>(rule));
}

// A function that takes integers too.
template <class Rule>
Tensor numeric(std::string_view name, UnaryKind kind, const Tensor& x, Rule&& rule) {
  check_defined(name, "x", x);
  check_number(name, "x", x);
  return apply(name, kind, x, std::forward<Rule>(rule));
}

// Flat wherever it has a slope at all.
Gradients no_slope(const RuleContext& c) { return {zeros_like(c.grad(0))}; }

Tensor zero_like(const Tensor& x) { return scalar(0.0, x.options()); }

}  // namespace

Tensor neg(const Tensor& x) {
  return numeric("neg", UnaryKind::neg, x, [](const RuleContext& c) { return Gradients{neg(c.grad(0))}; });
}

Tensor abs(const Tensor& x) {
  return numeric("abs", UnaryKind::abs, x,
                 [x = Saved(x)](const RuleContext& c) { return Gradients{mul(c.grad(0), sign(x))}; });
}

Tensor sign(const Tensor& x) { return numeric("sign", UnaryKind::sign, x, no_slope); }

Tensor square(const Tensor& x) {
  return numeric("square", UnaryKind::square, x,
                 [x = Saved(x)](const RuleContext& c) { return Gradients{mul(mul(c.grad(0), x), 2.0)}; });
}

Tensor sqrt(const Tensor& x) {
  return floating("sqrt", UnaryKind::sqrt, x,
                  [](const RuleContext& c, Outputs y) { return Gradients{div(mul(c.grad(0), 0.5), y[0])}; });
}

Tensor rsqrt(const Tensor& x) {
  return floating("rsqrt", UnaryKind::rsqrt, x, [](const RuleContext& c, Outputs y) {
    return Gradients{mul(mul(c.grad(0), -0.5), mul(square(y[0]), y[0]))};
  });
}

Tensor reciprocal(const Tensor& x) {
  return floating("reciprocal", UnaryKind::reciprocal, x,
                  [](const RuleContext& c, Outputs y) { return Gradients{neg(mul(c.grad(0), square(y[0])))}; });
}

Tensor exp(const Tensor& x) {
  return floating("exp", UnaryKind::exp, x,
                  [](const RuleContext& c, Outputs y) { return Gradients{mul(c.grad(0), y[0])}; });
}

Tensor exp2(const Tensor& x) {
  return floating("exp2", UnaryKind::exp2, x, [](const RuleContext& c, Outputs y) {
    return Gradients{mul(mul(c.grad(0), y[0]), std::numbers::ln2)};
  });
}

Tensor expm1(const Tensor& x) {
  return floating("expm1", UnaryKind::expm1, x,
                  [](const RuleContext& c, Outputs y) { return Gradients{mul(c.grad(0), add(y[0], 1.0))}; });
}

Tensor log(const Tensor& x) {
  return floating("log", UnaryKind::log, x,
                  [x = Saved(x)](const RuleContext& c) { return Gradients{div(c.grad(0), x)}; });
}

Tensor log2(const Tensor& x) {
  return floating("log2", UnaryKind::log2, x, [x = Saved(x)](const RuleContext& c) {
    return Gradients{mul(div(c.grad(0), x), std::numbers::log2e)};
  });
}

Tensor log1p(const Tensor& x) {
  return floating("log1p", UnaryKind::log1p, x,
                  [x = Saved(x)](const RuleContext& c) { return Gradients{div(c.grad(0), add(x, 1.0))}; });
}

Tensor sin(const Tensor& x) {
  return floating("sin", UnaryKind::sin, x,
                  [x = Saved(x)](const RuleContext& c) { return Gradients{mul(c.grad(0), cos(x))}; });
}

Tensor cos(const Tensor& x) {
  return floating("cos", UnaryKind::cos, x,
                  [x = Saved(x)](const RuleContext& c) { return Gradients{neg(mul(c.grad(0), sin(x)))}; });
}

Tensor tanh(const Tensor& x) {
  return floating("tanh", UnaryKind::tanh, x,
                  [](const RuleContext& c, Outputs y) { return Gradients{tanh_backward(y[0], c.grad(0))}; });
}

Tensor erf(const Tensor& x) {
  return floating("erf", UnaryKind::erf, x, [x = Saved(x)](const RuleContext& c) {  // 2 / sqrt(pi) exp(-x^2)
    return Gradients{mul(mul(c.grad(0), 2.0 * std::numbers::inv_sqrtpi), exp(neg(square(x))))};
  });
}

Tensor sigmoid(const Tensor& x) {
  return floating("sigmoid", UnaryKind::sigmoid, x,
                  [](const RuleContext& c, Outputs y) { return Gradients{sigmoid_backward(y[0], c.grad(0))}; });
}

Tensor log_sigmoid(const Tensor& x) {
  return floating("log_sigmoid", UnaryKind::log_sigmoid, x, [x = Saved(x)](const RuleContext& c) {  // sigmoid(-x)
    return Gradients{softplus_backward(neg(x), c.grad(0))};
  });
}

Tensor softplus(const Tensor& x) {
  return floating("softplus", UnaryKind::softplus, x,
                  [x = Saved(x)](const RuleContext& c) { return Gradients{softplus_backward(x, c.grad(0))}; });
}

Tensor silu(const Tensor& x) {
  return floating("silu", UnaryKind::silu, x,
                  [x = Saved(x)](const RuleContext& c) { return Gradients{silu_backward(x, c.grad(0))}; });
}

Tensor gelu(const Tensor& x) {
  return floating("gelu", UnaryKind::gelu, x,
                  [x = Saved(x)](const RuleContext& c) { return Gradients{gelu_backward(x, c.grad(0))}; });
}

Tensor relu(const Tensor& x) {
  return floating("relu", UnaryKind::relu, x, [](const RuleContext& c, Outputs y) {
    return Gradients{where(gt(y[0], 0.0), c.grad(0), zero_like(c.grad(0)))};
  });
}

Tensor floor(const Tensor& x) { return floating("floor", UnaryKind::floor, x, no_slope); }
Tensor ceil(const Tensor& x) { return floating("ceil", UnaryKind::ceil, x, no_slope); }
Tensor round(const Tensor& x) { return floating("round", UnaryKind::round, x, no_slope); }

Tensor clamp(const Tensor& x, double low, double high) {
  check_defined("clamp", "x", x);
  check_floating("clamp", "x", x);
  check(low <= high, "clamp", "low is {} and high is {}, expected low <= high", low, high);
  Tensor out = empty(x.shape(), x.options());
  backend_of(x).clamp(x, low, high, out);
  return record("clamp", std::move(out), std::span(&x, 1), [x = Saved(x)](const RuleContext& c, Outputs y) {
    return Gradients{where(eq(x, y[0]), c.grad(0), zero_like(c.grad(0)))};  // what was not changed was inside
  });
}

}  // namespace deltatape
