#include "ops/unary.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "autograd/backward.h"
#include "autograd/gradcheck.h"
#include "ops/activation_backward.h"
#include "ops/arithmetic.h"
#include "ops/convert.h"
#include "ops/creation.h"
#include "ops/swiglu.h"
#include "tests/support/compare.h"
#include "tests/support/errors.h"
#include "tests/support/random_tensors.h"

using namespace deltatape;

namespace {
using Doubles = std::vector<double>;
constexpr double kInf = std::numeric_limits<double>::infinity();

Doubles values(const Tensor& x) { return x.to_vector<double>(); }

// The gradient of f at these points for an upstream gradient of ones.
Doubles slopes(Tensor (*f)(const Tensor&), const Doubles& points) {
  Tensor x = from_vector(points);
  x.set_requires_grad();
  f(x).backward(ones_like(x));
  return values(x.grad());
}
}  // namespace

TEST_CASE("unary: neg, abs, sign and square take integers, the others refuse them") {
  const Tensor x = from_vector<int32_t>({-2, 0, 3});
  CHECK(neg(x).to_vector<int32_t>() == std::vector<int32_t>{2, 0, -3});
  CHECK(abs(x).to_vector<int32_t>() == std::vector<int32_t>{2, 0, 3});
  CHECK(sign(x).to_vector<int32_t>() == std::vector<int32_t>{-1, 0, 1});
  CHECK(square(x).to_vector<int32_t>() == std::vector<int32_t>{4, 0, 9});
  CHECK_ERROR(exp(x), "exp: x has dtype i32, expected a floating-point dtype");
  CHECK_ERROR(clamp(x, 0, 1), "clamp: x has dtype i32, expected a floating-point dtype");
  CHECK_ERROR(neg(from_vector<bool>({true})), "neg: x has dtype bool, expected a floating-point or integer dtype");
  CHECK_ERROR(tanh(Tensor()), "tanh: x is undefined, expected a tensor");
}

TEST_CASE("unary: slopes at kinks") {
  CHECK(slopes(abs, {-1, 0, 1}) == Doubles{-1, 0, 1});
  CHECK(slopes(relu, {-1, 0, 1}) == Doubles{0, 0, 1});
  CHECK(slopes(sign, {-1, 0, 1}) == Doubles{0, 0, 0});
  CHECK(slopes(round, {0.5, 1.2}) == Doubles{0, 0});
  CHECK(slopes(floor, {0.5, 1.0}) == Doubles{0, 0});
  CHECK(slopes(ceil, {0.5, 1.0}) == Doubles{0, 0});
}

TEST_CASE("swiglu: gradients of several blocks are those of its formula in f64, in every dtype, wanted one by one") {
  const Shape shape{5, 403};
  for (const DType dtype : {DType::f64, DType::f32, DType::bf16}) {
    const Tensor dy = test::random_tensor(shape, 3, dtype);
    for (const int wanted : {1, 2, 3}) {  // a, b, both
      CAPTURE(to_string(dtype));
      CAPTURE(wanted);
      std::vector<Tensor> narrow{test::random_tensor(shape, 1, dtype), test::random_tensor(shape, 2, dtype)};
      std::vector<Tensor> wide{to(narrow[0], DType::f64).detach(), to(narrow[1], DType::f64).detach()};
      for (size_t i = 0; i < 2; ++i) {
        narrow[i].set_requires_grad((wanted >> i & 1) != 0);
        wide[i].set_requires_grad((wanted >> i & 1) != 0);
      }
      swiglu(narrow[0], narrow[1]).backward(dy);
      mul(silu(wide[0]), wide[1]).backward(to(dy, DType::f64));
      for (size_t i = 0; i < 2; ++i) {
        CAPTURE(i);
        REQUIRE(narrow[i].grad().defined() == ((wanted >> i & 1) != 0));
        if (narrow[i].grad().defined()) {
          test::check_close("gradient", to(narrow[i].grad(), DType::f64), wide[i].grad(),
                            test::rounding(dtype, dtype == DType::bf16 ? 1.1 : 16));
        }
      }
    }
  }
}

TEST_CASE("relu: an infinite upstream gradient stays out where x is negative") {
  Tensor x = from_vector<double>({-1, 1});
  x.set_requires_grad();
  relu(x).backward(from_vector<double>({kInf, kInf}));
  CHECK(values(x.grad()) == Doubles{0, kInf});
}

TEST_CASE("clamp: gradient 1 inside and at the bounds") {
  Tensor x = from_vector<double>({-2, -1, 0, 1, 2});
  x.set_requires_grad();
  const Tensor y = clamp(x, -1, 1);
  CHECK(values(y) == Doubles{-1, -1, 0, 1, 1});
  y.backward(from_vector<double>({kInf, 1, 1, 1, kInf}));
  CHECK(values(x.grad()) == Doubles{0, 1, 1, 1, 0});
  CHECK_ERROR(clamp(x, 1, -1), "clamp: low is 1 and high is -1, expected low <= high");
  CHECK_ERROR(clamp(x, NAN, 1), "clamp: low is nan and high is 1, expected low <= high");
}

TEST_CASE("clamp: a bound that f32 rounds still counts as inside") {
  Tensor x = from_vector<float>({0.1F, 0.3F});
  x.set_requires_grad();
  clamp(x, 0.1, 0.3).backward(ones({2}));
  CHECK(values(x.grad()) == Doubles{1, 1});
}

TEST_CASE("unary: no overflow far from zero") {
  const Doubles far = {-1e4, 1e4};
  const Tensor x = from_vector(far);
  CHECK(values(sigmoid(x)) == Doubles{0, 1});
  CHECK(values(log_sigmoid(x)) == Doubles{-1e4, 0});
  CHECK(values(softplus(x)) == Doubles{0, 1e4});
  CHECK(values(silu(x)) == Doubles{0, 1e4});
  CHECK(values(gelu(x)) == Doubles{0, 1e4});
  CHECK(slopes(sigmoid, far) == Doubles{0, 0});
  CHECK(slopes(log_sigmoid, far) == Doubles{1, 0});
  CHECK(slopes(softplus, far) == Doubles{0, 1});
  CHECK(slopes(silu, far) == Doubles{0, 1});
  CHECK(slopes(gelu, far) == Doubles{0, 1});
  CHECK(slopes(tanh, far) == Doubles{0, 0});
}

TEST_CASE("activation slopes: recorded ops with rules of their own") {
  const Tensor x = from_vector<double>({-1.3, -0.2, 0.4, 2.1});
  const Tensor dy = from_vector<double>({0.7, -1.1, 0.3, 1.9});
  for (Tensor (*slope)(const Tensor&, const Tensor&) :
       {sigmoid_backward, tanh_backward, silu_backward, gelu_backward, softplus_backward}) {
    const TensorFunction f = [slope](const std::vector<Tensor>& in) {
      return std::vector<Tensor>{slope(in[0], in[1])};
    };
    const GradcheckReport first = gradcheck(f, {x, dy});
    INFO(first.text());
    CHECK(first.ok);
    const GradcheckReport second = gradgradcheck(f, {x, dy});
    INFO(second.text());
    CHECK(second.ok);
  }
  CHECK_ERROR(silu_backward(x, zeros({4})), "silu_backward: dy has dtype f32, expected f64");
  CHECK_ERROR(silu_backward(x, from_vector<double>({1})), "silu_backward: dy has shape [1], expected [4]");
}

TEST_CASE("unary: a third derivative") {
  Tensor x = from_vector<double>({0.5});
  x.set_requires_grad();
  BackwardOptions again;
  again.create_graph = true;
  Tensor y = sin(x);
  for (int order = 0; order < 3; ++order) {
    y = grad(y, x, Tensor(), again);
  }
  CHECK(std::abs(y.item() + std::cos(0.5)) <= 1e-15);
}
