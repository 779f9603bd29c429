#include "ops/arithmetic.h"

#include <array>
#include <utility>

#include "autograd/record.h"
#include "backends/backend.h"
#include "ops/checks.h"
#include "ops/comparison.h"
#include "ops/convert.h"
#include "ops/creation.h"
#include "ops/unary.h"
#include "ops/views.h"

namespace deltatape {
namespace {

using Pair = std::array<Tensor, 2>;

// Stands for a number that makes the result floating point.
constexpr double kFraction = 0.5;

// Both operands with one shape and one dtype, which is a number's.
Pair operands(std::string_view function, const Tensor& a, const Tensor& b) {
  auto [x, y] = broadcast_together(function, a, b);
  if (x.dtype() == DType::boolean) [[unlikely]] {
    check_number(function, "a", a);
  }
  return {std::move(x), std::move(y)};
}

// As operands, where integers become f32.
Pair floating_operands(std::string_view function, const Tensor& a, const Tensor& b) {
  Pair in = operands(function, a, b);
  if (!is_floating(in[0].dtype())) {
    in = {to(in[0], DType::f32), to(in[1], DType::f32)};
  }
  return in;
}

Tensor apply(BinaryKind kind, const Pair& in) {
  Tensor out = empty(in[0].shape(), in[0].options());
  backend_of(out).binary(kind, in[0], in[1], out);
  return out;
}

Tensor apply(BinaryKind kind, const Tensor& x, double number, bool number_first = false) {
  Tensor out = empty(x.shape(), x.options());
  backend_of(out).binary_scalar(kind, x, number, number_first, out);
  return out;
}

// What a plain number is combined with: an integer tensor that cannot hold it becomes f32.
Tensor operand_for(std::string_view function, std::string_view argument, const Tensor& x, double number) {
  check_defined(function, argument, x);
  check_number(function, argument, x);
  return holds(x.dtype(), number) ? x : to(x, DType::f32);
}

// Saves a tensor for the gradient of the other operand, if that is wanted.
Saved saved_for(const Tensor& other, const Tensor& x) { return other.requires_grad() ? Saved(x) : Saved(); }

Tensor zero_like(const Tensor& x) { return scalar(0.0, x.options()); }

Tensor extremum(std::string_view name, BinaryKind kind, const Tensor& a, const Tensor& b) {
  const Pair in = operands(name, a, b);
  return record(name, apply(kind, in), in, [kind, a = Saved(in[0]), b = Saved(in[1])](const RuleContext& c) {
    const Tensor& dy = c.grad(0);
    const Tensor tie = eq(a, b);
    const Tensor half = mul(dy, 0.5);
    const Tensor a_loses = kind == BinaryKind::maximum ? lt(a, b) : gt(a, b);
    Gradients gradients(2);
    if (c.needs_grad(0)) {
      gradients[0] = where(tie, half, where(a_loses, zero_like(dy), dy));
    }
    if (c.needs_grad(1)) {
      gradients[1] = where(tie, half, where(a_loses, dy, zero_like(dy)));
    }
    return gradients;
  });
}

}  // namespace

Tensor add(const Tensor& a, const Tensor& b) {
  const Pair in = operands("add", a, b);
  return record("add", apply(BinaryKind::add, in), in, [](const RuleContext& c) {
    return Gradients{c.grad(0), c.grad(0)};
  });
}

Tensor sub(const Tensor& a, const Tensor& b) {
  const Pair in = operands("sub", a, b);
  return record("sub", apply(BinaryKind::sub, in), in, [](const RuleContext& c) {
    return Gradients{c.grad(0), c.needs_grad(1) ? neg(c.grad(0)) : Tensor()};
  });
}

Tensor mul(const Tensor& a, const Tensor& b) {
  const Pair in = operands("mul", a, b);
  return record("mul", apply(BinaryKind::mul, in), in,
                [a = saved_for(in[1], in[0]), b = saved_for(in[0], in[1])](const RuleContext& c) {
                  return Gradients{c.needs_grad(0) ? mul(c.grad(0), b) : Tensor(),
                                   c.needs_grad(1) ? mul(c.grad(0), a) : Tensor()};
                });
}

Tensor div(const Tensor& a, const Tensor& b) {
  const Pair in = floating_operands("div", a, b);
  return record("div", apply(BinaryKind::div, in), in,
                [a = saved_for(in[1], in[0]), b = Saved(in[1])](const RuleContext& c) {
                  const Tensor da = div(c.grad(0), b);
                  return Gradients{da, c.needs_grad(1) ? neg(mul(da, div(a, b))) : Tensor()};
                });
}

Tensor pow(const Tensor& a, const Tensor& b) {
  const Pair in = operands("pow", a, b);
  return record("pow", apply(BinaryKind::pow, in), in, [a = Saved(in[0]), b = Saved(in[1])](const RuleContext& c) {
    Gradients gradients(2);
    if (c.needs_grad(0)) {  // b a^(b-1), where 0^0 has slope 0
      const Tensor zero_to_zero = logical_and(eq(a, 0.0), eq(b, 0.0));
      const Tensor base = masked_fill(a, zero_to_zero, 1.0);
      gradients[0] = mul(c.grad(0), mul(b, pow(base, sub(b, 1.0))));
    }
    if (c.needs_grad(1)) {  // a^b log(a), 0 where a = 0 and b >= 0
      const Tensor flat = logical_and(eq(a, 0.0), ge(b, 0.0));
      gradients[1] = mul(c.grad(0), mul(pow(a, b), log(masked_fill(a, flat, 1.0))));
    }
    return gradients;
  });
}

Tensor maximum(const Tensor& a, const Tensor& b) { return extremum("maximum", BinaryKind::maximum, a, b); }
Tensor minimum(const Tensor& a, const Tensor& b) { return extremum("minimum", BinaryKind::minimum, a, b); }

Tensor add(const Tensor& a, double b) {
  const Tensor x = operand_for("add", "a", a, b);
  return record("add", apply(BinaryKind::add, x, b), std::span(&x, 1),
                [](const RuleContext& c) { return Gradients{c.grad(0)}; });
}

Tensor sub(const Tensor& a, double b) {
  const Tensor x = operand_for("sub", "a", a, b);
  return record("sub", apply(BinaryKind::sub, x, b), std::span(&x, 1),
                [](const RuleContext& c) { return Gradients{c.grad(0)}; });
}

Tensor sub(double a, const Tensor& b) {
  const Tensor x = operand_for("sub", "b", b, a);
  return record("sub", apply(BinaryKind::sub, x, a, true), std::span(&x, 1),
                [](const RuleContext& c) { return Gradients{neg(c.grad(0))}; });
}

Tensor mul(const Tensor& a, double b) {
  const Tensor x = operand_for("mul", "a", a, b);
  return record("mul", apply(BinaryKind::mul, x, b), std::span(&x, 1),
                [b](const RuleContext& c) { return Gradients{mul(c.grad(0), b)}; });
}

Tensor div(const Tensor& a, double b) {
  const Tensor x = operand_for("div", "a", a, kFraction);
  return record("div", apply(BinaryKind::div, x, b), std::span(&x, 1),
                [b](const RuleContext& c) { return Gradients{div(c.grad(0), b)}; });
}

Tensor div(double a, const Tensor& b) {
  const Tensor x = operand_for("div", "b", b, kFraction);
  return record("div", apply(BinaryKind::div, x, a, true), std::span(&x, 1),
                [x = Saved(x), a](const RuleContext& c) { return Gradients{mul(div(c.grad(0), x), div(-a, x))}; });
}

Tensor pow(const Tensor& a, double b) {
  const Tensor x = operand_for("pow", "a", a, b >= 0 ? b : kFraction);
  return record("pow", apply(BinaryKind::pow, x, b), std::span(&x, 1), [x = Saved(x), b](const RuleContext& c) {
    return Gradients{b == 0 ? zeros_like(c.grad(0)) : mul(c.grad(0), mul(pow(x, b - 1), b))};
  });
}

Tensor operator-(const Tensor& a) { return neg(a); }

Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b) {
  check_defined("where", "condition", condition);
  check_dtype("where", "condition", condition, DType::boolean);
  auto [x, y] = broadcast_together("where", a, b);
  check_same_device("where", "condition", condition, x);
  check_broadcasts_with("where", "condition", condition, x.shape());
  const Shape shape = broadcast_shapes("where", x.shape(), condition.shape());
  auto stretched = [&shape](const Tensor& t) { return t.shape() == shape ? t : expand(t, shape); };
  const Tensor mask = stretched(condition);
  const Pair in = {stretched(x), stretched(y)};
  Tensor out = empty(shape, x.options());
  backend_of(out).where(mask, in[0], in[1], out);
  return record("where", std::move(out), in, [mask = Saved(mask)](const RuleContext& c) {
    const Tensor zero = zero_like(c.grad(0));
    return Gradients{c.needs_grad(0) ? where(mask, c.grad(0), zero) : Tensor(),
                     c.needs_grad(1) ? where(mask, zero, c.grad(0)) : Tensor()};
  });
}

Tensor masked_fill(const Tensor& x, const Tensor& mask, double value) {
  check_defined("masked_fill", "x", x);
  check_defined("masked_fill", "mask", mask);
  check_dtype("masked_fill", "mask", mask, DType::boolean);
  check_same_device("masked_fill", "mask", mask, x);
  check_broadcasts_to("masked_fill", "mask", mask, x.shape());
  const Tensor values = x.dtype() == DType::boolean || holds(x.dtype(), value) ? x : to(x, DType::f32);
  const Tensor filling = expand(full({}, value, values.options()), x.shape());
  const Tensor filled = mask.shape() == x.shape() ? mask : expand(mask, x.shape());
  Tensor out = empty(x.shape(), values.options());
  backend_of(out).where(filled, filling, values, out);
  return record("masked_fill", std::move(out), std::span(&values, 1), [filled = Saved(filled)](const RuleContext& c) {
    return Gradients{where(filled, zero_like(c.grad(0)), c.grad(0))};
  });
}

}  // namespace deltatape
