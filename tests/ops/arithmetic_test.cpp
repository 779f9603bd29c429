#include "ops/arithmetic.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "autograd/backward.h"
#include "autograd/grad_mode.h"
#include "ops/comparison.h"
#include "ops/creation.h"
#include "ops/inplace.h"
#include "ops/unary.h"
#include "tests/support/errors.h"

using namespace deltatape;

namespace {
using Doubles = std::vector<double>;
constexpr double kInf = std::numeric_limits<double>::infinity();

Tensor leaf(const Doubles& values) { return from_vector(values).set_requires_grad(); }
Doubles values(const Tensor& x) { return x.to_vector<double>(); }
Tensor of(DType dtype) { return ones({2}, {dtype, Device::cpu()}); }
Tensor ones_for(const Tensor& x) { return ones_like(x); }
}  // namespace

TEST_CASE("arithmetic: dtypes promote") {
  CHECK(add(of(DType::i32), of(DType::i64)).dtype() == DType::i64);
  CHECK(mul(of(DType::i64), of(DType::bf16)).dtype() == DType::bf16);
  CHECK(sub(of(DType::bf16), of(DType::f16)).dtype() == DType::f32);
  CHECK(add(of(DType::f32), of(DType::f64)).dtype() == DType::f64);
  CHECK(add(of(DType::boolean), of(DType::f32)).dtype() == DType::f32);
  CHECK(maximum(of(DType::boolean), of(DType::i32)).dtype() == DType::i32);
}

TEST_CASE("arithmetic: integers divide in f32") {
  const Tensor a = from_vector<int64_t>({1, 7});
  const Tensor b = from_vector<int32_t>({2, 2});
  CHECK(div(a, b).dtype() == DType::f32);
  CHECK(values(div(a, b)) == Doubles{0.5, 3.5});
  CHECK(values(div(a, 2)) == Doubles{0.5, 3.5});
  CHECK(values(div(7, b)) == Doubles{3.5, 3.5});
}

TEST_CASE("arithmetic: an integer tensor keeps its dtype with a whole number, and becomes f32 with another") {
  const Tensor x = from_vector<int32_t>({1, 2});
  CHECK(add(x, 2).dtype() == DType::i32);
  CHECK(sub(5, x).dtype() == DType::i32);
  CHECK(values(sub(5, x)) == Doubles{4, 3});
  CHECK(values(mul(x, 0.5)) == Doubles{0.5, 1});
  CHECK(mul(x, 0.5).dtype() == DType::f32);
  CHECK(add(x, kInf).dtype() == DType::f32);
  CHECK(add(x, 3e9).dtype() == DType::f32);  // beyond i32
  CHECK(pow(x, 3).dtype() == DType::i32);
  CHECK(values(pow(x, -1)) == Doubles{1, 0.5});
  CHECK(add(of(DType::bf16), 0.5).dtype() == DType::bf16);
}

TEST_CASE("arithmetic: two bool tensors are refused") {
  const Tensor x = of(DType::boolean);
  CHECK_ERROR(add(x, x), "add: a has dtype bool, expected a floating-point or integer dtype");
  CHECK_ERROR(div(x, x), "div: a has dtype bool, expected a floating-point or integer dtype");
  CHECK_ERROR(mul(x, 2), "mul: a has dtype bool, expected a floating-point or integer dtype");
}

TEST_CASE("arithmetic: errors name the function and the argument") {
  const Tensor a = zeros({2, 4});
  CHECK_ERROR(mul(a, zeros({3})), "mul: b has shape [3], expected a shape that broadcasts with [2, 4]");
  CHECK_ERROR(pow(a, Tensor()), "pow: b is undefined, expected a tensor");
  CHECK_ERROR(add(Tensor(), a), "add: a is undefined, expected a tensor");
  CHECK_ERROR(sub(1, Tensor()), "sub: b is undefined, expected a tensor");
}

TEST_CASE("mul: only what a gradient needs is saved") {
  Tensor a = leaf({2, 3});
  Tensor b = from_vector<double>({5, 7});
  const Tensor y = a * b;
  {
    const NoGradGuard guard;
    fill_(a, 0);  // b has no gradient, so nothing depends on a's values
  }
  y.backward(ones_for(y));
  CHECK(values(a.grad()) == Doubles{5, 7});
  const Tensor z = a * b;
  fill_(b, 0);
  CHECK(test::error_of([&] { z.backward(ones_for(z)); }).find("modified in place") != std::string::npos);
}

TEST_CASE("div: by zero as in IEEE 754") {
  const Doubles y = values(div(from_vector<double>({1, -1, 0}), 0.0));
  CHECK(y[0] == kInf);
  CHECK(y[1] == -kInf);
  CHECK(std::isnan(y[2]));
}

TEST_CASE("pow: gradients at zero are numbers") {
  const Tensor a = leaf({0, 0, 0, 2});
  const Tensor b = leaf({0, 1, 2, 0});
  const Tensor y = pow(a, b);
  CHECK(values(y) == Doubles{1, 0, 0, 1});
  y.backward(ones_for(y));
  CHECK(values(a.grad()) == Doubles{0, 1, 0, 0});
  CHECK(values(b.grad()) == Doubles{0, 0, 0, std::log(2.0)});
}

TEST_CASE("pow: a number as exponent, gradients at zero") {
  for (const double exponent : {0.0, 1.0, 2.0, 3.0}) {
    const Tensor x = leaf({0});
    pow(x, exponent).backward();
    CHECK(x.grad().item() == (exponent == 1.0 ? 1.0 : 0.0));
  }
}

TEST_CASE("pow: second derivatives at zero") {
  const Tensor x = leaf({0});
  BackwardOptions options;
  options.create_graph = true;
  const Tensor first = grad(pow(x, 2), x, Tensor(), options);
  CHECK(grad(first, x).item() == 2.0);
}

TEST_CASE("maximum, minimum: a tie halves the gradient, NaN wins") {
  for (const bool largest : {true, false}) {
    const Tensor a = leaf({1, 2, 3});
    const Tensor b = leaf({3, 2, 1});
    const Tensor y = largest ? maximum(a, b) : minimum(a, b);
    y.backward(from_vector<double>({2, 4, 8}));
    CHECK(values(a.grad()) == (largest ? Doubles{0, 2, 8} : Doubles{2, 2, 0}));
    CHECK(values(b.grad()) == (largest ? Doubles{2, 2, 0} : Doubles{0, 2, 8}));
  }
  const Tensor nan = from_vector<double>({NAN, 1});
  const Tensor x = from_vector<double>({1, NAN});
  CHECK(all(isnan(maximum(nan, x))));
  CHECK(all(isnan(minimum(nan, x))));
}

TEST_CASE("maximum: an infinite upstream gradient does not reach the smaller side") {
  const Tensor a = leaf({1});
  const Tensor b = leaf({2});
  maximum(a, b).backward(from_vector<double>({kInf}));
  CHECK(a.grad().item() == 0.0);
  CHECK(b.grad().item() == kInf);
}

TEST_CASE("where: three shapes broadcast, dtypes promote") {
  const Tensor condition = from_vector<bool>({true, false}, {2, 1});
  const Tensor y = where(condition, from_vector<float>({1, 2, 3}), scalar(0, {DType::f64, Device::cpu()}));
  CHECK(y.dtype() == DType::f64);
  CHECK(y.shape() == Shape{2, 3});
  CHECK(values(y) == Doubles{1, 2, 3, 0, 0, 0});
}

TEST_CASE("where: NaN and infinity on the side that is not taken do no harm") {
  const Tensor x = leaf({0, 1});
  const Tensor safe = where(gt(x, 0.0), log(x), mul(x, 2.0));
  CHECK(values(safe) == Doubles{0, 0});
  const Tensor a = leaf({1, 1});
  const Tensor b = leaf({1, 1});
  where(from_vector<bool>({true, false}), a, b).backward(from_vector<double>({kInf, NAN}));
  CHECK(a.grad().to_vector<double>()[1] == 0.0);
  CHECK(b.grad().to_vector<double>()[0] == 0.0);
}

TEST_CASE("where: bad arguments") {
  const Tensor x = zeros({2, 4});
  CHECK_ERROR(where(x, x, x), "where: condition has dtype f32, expected bool");
  CHECK_ERROR(where(Tensor(), x, x), "where: condition is undefined, expected a tensor");
  CHECK_ERROR(where(from_vector<bool>({true, false, true}), x, x),
              "where: condition has shape [3], expected a shape that broadcasts with [2, 4]");
  CHECK_ERROR(where(gt(x, 0.0), x, zeros({3})), "where: b has shape [3], expected a shape that broadcasts with [2, 4]");
}

TEST_CASE("masked_fill: the value where the mask is true, no gradient there") {
  const Tensor x = leaf({1, 2, 3});
  const Tensor mask = from_vector<bool>({false, true, false});
  const Tensor y = masked_fill(x, mask, -kInf);
  CHECK(values(y) == Doubles{1, -kInf, 3});
  y.backward(from_vector<double>({1, kInf, 3}));
  CHECK(values(x.grad()) == Doubles{1, 0, 3});
}

TEST_CASE("masked_fill: the mask stretches, x does not") {
  const Tensor x = zeros({2, 3});
  CHECK(values(masked_fill(x, from_vector<bool>({true, false}, {2, 1}), 1)) == Doubles{1, 1, 1, 0, 0, 0});
  CHECK_ERROR(masked_fill(scalar(1), from_vector<bool>({true, false}), 1),
              "masked_fill: mask has shape [2], expected a shape that broadcasts to []");
  CHECK_ERROR(masked_fill(x, x, 1), "masked_fill: mask has dtype f32, expected bool");
  const Tensor whole = from_vector<int64_t>({1, 2});
  const Tensor mask = from_vector<bool>({true, false});
  CHECK(masked_fill(whole, mask, 5).dtype() == DType::i64);
  CHECK(masked_fill(whole, mask, -kInf).dtype() == DType::f32);
  CHECK(masked_fill(mask, mask, 0).dtype() == DType::boolean);
}

TEST_CASE("operators: the functions of their names") {
  const Tensor a = from_vector<double>({6});
  const Tensor b = from_vector<double>({2});
  CHECK((a + b).item() == 8);
  CHECK((a - b).item() == 4);
  CHECK((a * b).item() == 12);
  CHECK((a / b).item() == 3);
  CHECK((1 + a).item() == 7);
  CHECK((1 - a).item() == -5);
  CHECK((2 * a).item() == 12);
  CHECK((3 / a).item() == 0.5);
  CHECK((-a).item() == -6);
}
