#include <cmath>

#include "ops/swiglu.h"
#include "ops/unary.h"
#include "tests/support/op_samples.h"

namespace deltatape::test {
namespace {

using Function = Tensor (*)(const Tensor&);

OpSample row(const std::string& name, Function f, double (*reference)(double), const Domain& domain = reals()) {
  return OpSample(name)
      .in({5, 9}, domain)
      .calls(f)
      .equals([reference](const Array& x) { return map(x, reference); })
      .any_shape()
      .rejects(name + ": x is undefined, expected a tensor", [f] { f(Tensor()); });
}

OpSample floating(const std::string& name, Function f, double (*reference)(double), const Domain& domain = reals()) {
  return row(name, f, reference, domain).rejects(name + ": x has dtype i64, expected a floating-point dtype", [f] {
    f(empty({2}, DType::i64));
  });
}

OpSample any_number(const std::string& name, Function f, double (*reference)(double), const Domain& domain = reals()) {
  return row(name, f, reference, domain)
      .takes_integers()
      .rejects(name + ": x has dtype bool, expected a floating-point or integer dtype",
               [f] { f(empty({2}, DType::boolean)); });
}

// Far from 0, where a formula taken literally overflows.
OpSample far_out(const std::string& name, Function f, double (*reference)(double)) {
  return OpSample(name, "far out")
      .in_values({8}, {-800, -100, -40, -0.0, 0, 40, 100, 800}, DType::f64)
      .calls(f)
      .equals([reference](const Array& x) { return map(x, reference); })
      .gives({DType::f64})
      .one_dtype();
}

OpSample near_zero(const std::string& name, Function f, double (*reference)(double)) {
  return OpSample(name, "near 0").in({7}, between(-1e-3, 1e-3)).calls(f).equals([reference](const Array& x) {
    return map(x, reference);
  });
}

double sigmoid_of(double x) { return x < 0 ? std::exp(x) / (1 + std::exp(x)) : 1 / (1 + std::exp(-x)); }
double softplus_of(double x) { return (x > 0 ? x : 0) + std::log1p(std::exp(-std::abs(x))); }
double log_sigmoid_of(double x) { return -softplus_of(-x); }
double silu_of(double x) { return x * sigmoid_of(x); }
double gelu_of(double x) { return x * 0.5 * std::erfc(-x / std::sqrt(2.0)); }
double sign_of(double x) { return static_cast<double>(x > 0) - static_cast<double>(x < 0); }

}  // namespace

std::vector<OpSample> unary_samples() {
  const Domain positive = between(0.2, 4.0);
  const Domain not_zero = away_from({0});
  const Domain not_whole = away_from({-2, -1, 0, 1, 2});
  const Domain not_half = away_from({-1.5, -0.5, 0.5, 1.5});
  return {
      any_number("neg", neg, [](double x) { return -x; }),
      any_number(
          "abs", abs, [](double x) { return std::abs(x); }, not_zero),
      any_number("sign", sign, sign_of, not_zero),
      any_number("square", square, [](double x) { return x * x; }),
      floating(
          "sqrt", sqrt, [](double x) { return std::sqrt(x); }, positive),
      floating(
          "rsqrt", rsqrt, [](double x) { return 1 / std::sqrt(x); }, positive),
      floating(
          "reciprocal", reciprocal, [](double x) { return 1 / x; }, away_from({0, -0.1, 0.1})),
      floating("exp", exp, [](double x) { return std::exp(x); }),
      floating("exp2", exp2, [](double x) { return std::exp2(x); }),
      floating("expm1", expm1, [](double x) { return std::expm1(x); }),
      near_zero("expm1", expm1, [](double x) { return std::expm1(x); }),
      floating(
          "log", log, [](double x) { return std::log(x); }, positive),
      floating(
          "log2", log2, [](double x) { return std::log2(x); }, positive),
      floating(
          "log1p", log1p, [](double x) { return std::log1p(x); }, between(-0.8, 3.0)),
      near_zero("log1p", log1p, [](double x) { return std::log1p(x); }),
      floating("sin", sin, [](double x) { return std::sin(x); }),
      floating("cos", cos, [](double x) { return std::cos(x); }),
      floating("tanh", tanh, [](double x) { return std::tanh(x); }),
      far_out("tanh", tanh, [](double x) { return std::tanh(x); }),
      floating("erf", erf, [](double x) { return std::erf(x); }),
      floating("sigmoid", sigmoid, sigmoid_of),
      far_out("sigmoid", sigmoid, sigmoid_of),
      floating("log_sigmoid", log_sigmoid, log_sigmoid_of),
      far_out("log_sigmoid", log_sigmoid, log_sigmoid_of),
      floating("softplus", softplus, softplus_of),
      far_out("softplus", softplus, softplus_of),
      floating("silu", silu, silu_of),
      far_out("silu", silu, silu_of),
      OpSample("swiglu")
          .in({3, 5})
          .in({3, 5})
          .calls([](const Tensor& a, const Tensor& b) { return swiglu(a, b); })
          .equals([](const Array& a, const Array& b) {
            return zip(a, b, [](double x, double y) { return silu_of(x) * y; });
          })
          .also_for({{0, 5}, {0, 5}})
          .also_for({{70, 3, 400}, {70, 3, 400}})
          .rejects("swiglu: a is undefined, expected a tensor", [] { swiglu(Tensor(), empty({2})); })
          .rejects("swiglu: b is undefined, expected a tensor", [] { swiglu(empty({2}), Tensor()); })
          .rejects("swiglu: a has dtype i64, expected a floating-point dtype",
                   [] { swiglu(empty({2}, DType::i64), empty({2}, DType::i64)); })
          .rejects("swiglu: b has dtype f64, expected f32", [] { swiglu(empty({2}), empty({2}, DType::f64)); })
          .rejects("swiglu: b has shape [3], expected a's shape = [2]", [] { swiglu(empty({2}), empty({3})); }),
      floating("gelu", gelu, gelu_of),
      far_out("gelu", gelu, gelu_of),
      floating(
          "relu", relu, [](double x) { return x > 0 ? x : 0.0; }, not_zero),
      floating(
          "floor", floor, [](double x) { return std::floor(x); }, not_whole),
      floating(
          "ceil", ceil, [](double x) { return std::ceil(x); }, not_whole),
      floating(
          "round", round, [](double x) { return std::nearbyint(x); }, not_half),
      OpSample("round", "halves")
          .in_values({6}, {-2.5, -1.5, -0.5, 0.5, 1.5, 2.5}, DType::f64)
          .calls(round)
          .equals([] {
            return Array({6}, {-2, -2, 0, 0, 2, 2});
          })
          .gives({DType::f64})
          .one_dtype(),
      OpSample("clamp")
          .in({5, 9}, away_from({-0.75, 1.25}))
          .calls([](const Tensor& x) { return clamp(x, -0.75, 1.25); })
          .equals([](const Array& x) { return map(x, [](double v) { return std::min(std::max(v, -0.75), 1.25); }); })
          .any_shape()
          .rejects("clamp: x is undefined, expected a tensor", [] { clamp(Tensor(), 0, 1); })
          .rejects("clamp: low is 2 and high is 1, expected low <= high", [] { clamp(empty({2}), 2, 1); }),
  };
}

}  // namespace deltatape::test
