#include <algorithm>
#include <cmath>

#include "ops/arithmetic.h"
#include "tests/support/op_samples.h"

namespace deltatape::test {
namespace {

using Function = Tensor (*)(const Tensor&, const Tensor&);
using Reference = double (*)(double, double);

OpSample row(const std::string& name, Function f, Reference reference, const Domain& left = reals(),
             const Domain& right = reals()) {
  return OpSample(name)
      .in({5, 9}, left)
      .in({5, 9}, right)
      .calls(f)
      .equals([reference](const Array& a, const Array& b) { return zip(a, b, reference); })
      .any_shape()
      .rejects(name + ": a is undefined, expected a tensor", [f] { f(Tensor(), empty({2})); })
      .rejects(name + ": b is undefined, expected a tensor", [f] { f(empty({2}), Tensor()); })
      .rejects(name + ": b has shape [3], expected a shape that broadcasts with [2, 4]", [f] {
        f(empty({2, 4}), empty({3}));
      });
}

// With the plain number 0.75 (left out of an integer's way) on one side.
OpSample with_number(const std::string& name, const std::string& side, Tensor (*f)(const Tensor&),
                     double (*reference)(double), const Domain& domain = reals()) {
  return OpSample(name, side)
      .in({5, 9}, domain)
      .calls(f)
      .equals([reference](const Array& x) { return map(x, reference); })
      .any_shape();
}

}  // namespace

std::vector<OpSample> arithmetic_samples() {
  const Domain positive = between(0.4, 2.0);
  const Domain not_zero = away_from({-0.2, 0, 0.2});
  return {
      row("add", add, [](double a, double b) { return a + b; }).takes_integers(),
      row("sub", sub, [](double a, double b) { return a - b; }).takes_integers(),
      row("mul", mul, [](double a, double b) { return a * b; }).takes_integers(),
      row(
          "div", div, [](double a, double b) { return a / b; }, reals(), not_zero),
      row(
          "pow", pow, [](double a, double b) { return std::pow(a, b); }, positive),
      row("maximum", maximum, [](double a, double b) { return std::max(a, b); }).takes_integers(),
      row("minimum", minimum, [](double a, double b) { return std::min(a, b); }).takes_integers(),

      with_number(
          "add", "number", [](const Tensor& x) { return add(x, 0.75); }, [](double x) { return x + 0.75; }),
      with_number(
          "sub", "number", [](const Tensor& x) { return sub(x, 0.75); }, [](double x) { return x - 0.75; }),
      with_number(
          "sub", "from number", [](const Tensor& x) { return sub(0.75, x); }, [](double x) { return 0.75 - x; }),
      with_number(
          "mul", "number", [](const Tensor& x) { return mul(x, -0.75); }, [](double x) { return x * -0.75; }),
      with_number(
          "div", "by number", [](const Tensor& x) { return div(x, 0.75); }, [](double x) { return x / 0.75; }),
      with_number(
          "div", "number by", [](const Tensor& x) { return div(0.75, x); }, [](double x) { return 0.75 / x; },
          not_zero),
      with_number(
          "pow", "2", [](const Tensor& x) { return pow(x, 2.0); }, [](double x) { return x * x; }),
      with_number(
          "pow", "3", [](const Tensor& x) { return pow(x, 3.0); }, [](double x) { return x * x * x; }),
      with_number(
          "pow", "0", [](const Tensor& x) { return pow(x, 0.0); }, [](double) { return 1.0; }),
      with_number(
          "pow", "-0.5", [](const Tensor& x) { return pow(x, -0.5); }, [](double x) { return std::pow(x, -0.5); },
          positive),
      with_number(
          "add", "whole number", [](const Tensor& x) { return add(x, 2); }, [](double x) { return x + 2; })
          .takes_integers(),
      with_number(
          "mul", "whole number", [](const Tensor& x) { return mul(x, -3); }, [](double x) { return x * -3; })
          .takes_integers(),

      OpSample("mul", "integers by a fraction")
          .in_values({4}, {-3, 0, 1, 5})
          .calls([](const Tensor& x) { return mul(x, 0.5); })
          .equals([] {
            return Array({4}, {-1.5, 0, 0.5, 2.5});
          })
          .gives({DType::f32})
          .no_gradient(),
      OpSample("div", "integers")
          .in_values({4}, {-3, 0, 1, 5})
          .in_values({4}, {2, 4, 4, -2})
          .calls(static_cast<Function>(div))
          .equals([] {
            return Array({4}, {-1.5, 0, 0.25, -2.5});
          })
          .gives({DType::f32})
          .no_gradient(),
      OpSample("div", "by zero")
          .in_values({3}, {-1, 0, 1}, DType::f64)
          .in_values({3}, {0, 0, 0}, DType::f64)
          .calls(static_cast<Function>(div))
          .equals([](const Array& a, const Array& b) { return zip(a, b, [](double x, double y) { return x / y; }); })
          .gives({DType::f64})
          .no_gradient()
          .may_give_nan(),

      OpSample("where")
          .in({5, 9}, booleans())
          .in({5, 9})
          .in({5, 9})
          .calls(where)
          .equals([](const Array& condition, const Array& a, const Array& b) {
            const Shape shape = common_shape(condition.shape, common_shape(a.shape, b.shape));
            const Array left = stretch(a, shape);
            const Array right = stretch(b, shape);
            const Array chosen = stretch(condition, shape);
            return build(shape, [&](const Shape& i) { return chosen.at(i) != 0 ? left.at(i) : right.at(i); });
          })
          .any_shape()
          .takes_integers()
          .rejects("where: condition is undefined, expected a tensor", [] { where(Tensor(), empty({2}), empty({2})); })
          .rejects("where: condition has dtype f32, expected bool", [] { where(empty({2}), empty({2}), empty({2})); })
          .rejects("where: b has shape [3], expected a shape that broadcasts with [2, 4]",
                   [] {
                     where(empty({4}, DType::boolean), empty({2, 4}), empty({3}));
                   })
          .rejects("where: condition has shape [3], expected a shape that broadcasts with [2, 4]",
                   [] {
                     where(empty({3}, DType::boolean), empty({2, 4}), empty({4}));
                   }),
      OpSample("masked_fill")
          .in({2, 5, 9})
          .in({5, 1}, booleans())
          .calls([](const Tensor& x, const Tensor& mask) { return masked_fill(x, mask, -1.5); })
          .equals([](const Array& x, const Array& mask) {
            return zip(x, mask, [](double value, double masked) { return masked != 0 ? -1.5 : value; });
          })
          .also_for({{2, 0, 9}, {1}})
          .rejects("masked_fill: x is undefined, expected a tensor",
                   [] { masked_fill(Tensor(), empty({2}, DType::boolean), 0); })
          .rejects("masked_fill: mask has dtype f32, expected bool", [] { masked_fill(empty({2}), empty({2}), 0); })
          .rejects("masked_fill: mask has shape [3], expected a shape that broadcasts to [2, 4]",
                   [] {
                     masked_fill(empty({2, 4}), empty({3}, DType::boolean), 0);
                   }),
  };
}

}  // namespace deltatape::test
