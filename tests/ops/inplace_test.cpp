#include "ops/inplace.h"

#include <doctest/doctest.h>

#include "autograd/grad_mode.h"
#include "ops/arithmetic.h"
#include "ops/creation.h"
#include "ops/unary.h"
#include "ops/views.h"
#include "tests/support/errors.h"

using namespace deltatape;

namespace {
using Floats = std::vector<float>;

Floats values(const Tensor& x) { return x.to_vector<float>(); }
Tensor of(const Floats& values) { return from_vector(values); }
}  // namespace

TEST_CASE("fill_, copy_, add_, mul_: change the memory itself") {
  Tensor x = zeros({2, 2});
  const Tensor same = x;
  fill_(x, 3);
  CHECK(values(same) == Floats{3, 3, 3, 3});
  copy_(x, from_vector<int64_t>({1, 2}));
  CHECK(values(same) == Floats{1, 2, 1, 2});
  add_(x, of({10, 20}), 0.5);
  CHECK(values(same) == Floats{6, 12, 6, 12});
  mul_(x, from_vector<double>({2, 3}, {2, 1}));
  CHECK(values(same) == Floats{12, 24, 18, 36});
  mul_(x, 0.5);
  CHECK(values(same) == Floats{6, 12, 9, 18});
}

TEST_CASE("in-place functions: each counts as one change") {
  Tensor x = ones({2});
  const auto version = [&x] { return x.storage()->version(); };
  const uint32_t before = version();
  fill_(x, 1);
  CHECK(version() == before + 1);
  copy_(x, of({1, 2}));
  CHECK(version() == before + 2);
  add_(x, of({1, 2}));
  CHECK(version() == before + 3);
  mul_(x, of({1, 2}));
  CHECK(version() == before + 4);
  mul_(x, 2);
  CHECK(version() == before + 5);
}

TEST_CASE("in-place functions: strided views") {
  Tensor x = zeros({2, 3});
  Tensor column = select(x, 1, 1);
  add_(column, of({1, 2}));
  CHECK(values(x) == Floats{0, 1, 0, 0, 2, 0});
  mul_(column, of({5, 5}));
  CHECK(values(x) == Floats{0, 5, 0, 0, 10, 0});
  mul_(column, 2);
  copy_(column, select(x, 1, 1));
  CHECK(values(x) == Floats{0, 10, 0, 0, 20, 0});
}

TEST_CASE("in-place functions: source and target on the same memory") {
  Tensor x = of({1, 2, 3, 4});
  Tensor tail = x[Slice{1, 4}];
  copy_(tail, x[Slice{0, 3}]);
  CHECK(values(x) == Floats{1, 1, 2, 3});
  add_(x, x);
  CHECK(values(x) == Floats{2, 2, 4, 6});
  copy_(x, flip(x, {0}));
  mul_(x, x);
  CHECK(values(x) == Floats{36, 16, 4, 4});
}

TEST_CASE("in-place functions: overlapping elements are refused") {
  Tensor stretched = expand(ones({1}), {3});
  CHECK_ERROR(fill_(stretched, 1),
              "fill_: x has shape [3] and strides [0], expected elements that do not overlap in memory");
  Tensor windows = unfold(zeros({4}), 0, 2, 1);
  CHECK_ERROR(add_(windows, ones({3, 2})),
              "add_: x has shape [3, 2] and strides [1, 1], expected elements that do not overlap in memory");
  Tensor apart = unfold(zeros({4}), 0, 2, 2);
  add_(apart, ones({2, 2}));
  CHECK(values(apart) == Floats{1, 1, 1, 1});
}

TEST_CASE("in-place functions: a leaf is refused while gradients are recorded") {
  Tensor x = of({1, 2});
  x.set_requires_grad();
  CHECK_ERROR(fill_(x, 0),
              "fill_: x requires a gradient, expected that nothing is recorded meanwhile (use a NoGradGuard)");
  CHECK(values(x) == Floats{1, 2});
  const NoGradGuard guard;
  add_(x, of({1, 1}), -1);
  CHECK(values(x) == Floats{0, 1});
  CHECK(x.requires_grad());
}

TEST_CASE("in-place functions: part of a graph is refused at any time") {
  Tensor x = of({1, 2});
  x.set_requires_grad();
  Tensor y = square(x);
  const std::string message =
      "mul_: x is part of a graph, expected a tensor without history (detach() gives one on the same memory)";
  CHECK_ERROR(mul_(y, 2), message);
  const NoGradGuard guard;
  CHECK_ERROR(mul_(y, 2), message);
  Tensor detached = y.detach();
  mul_(detached, 2);
  CHECK(values(y) == Floats{2, 8});
}

TEST_CASE("in-place functions: a source that requires a gradient is refused while gradients are recorded") {
  Tensor x = zeros({2});
  Tensor y = of({1, 2});
  y.set_requires_grad();
  CHECK_ERROR(copy_(x, y),
              "copy_: source requires a gradient, expected that nothing is recorded meanwhile (use a NoGradGuard or "
              "detach())");
  CHECK_ERROR(add_(x, y),
              "add_: y requires a gradient, expected that nothing is recorded meanwhile (use a NoGradGuard or "
              "detach())");
  CHECK_ERROR(mul_(x, y),
              "mul_: y requires a gradient, expected that nothing is recorded meanwhile (use a NoGradGuard or "
              "detach())");
  copy_(x, y.detach());
  CHECK(values(x) == Floats{1, 2});
}

TEST_CASE("in-place functions: a tensor saved for backward notices") {
  Tensor x = of({1, 2});
  x.set_requires_grad();
  const Tensor y = square(x);
  {
    const NoGradGuard guard;
    fill_(x, 0);
  }
  CHECK(test::error_of([&] { y.backward(ones({2})); }).find("modified in place") != std::string::npos);
}

TEST_CASE("in-place functions: shapes and dtypes that do not fit, nothing changed") {
  Tensor x = from_vector<int64_t>({1, 2});
  const uint32_t before = x.storage()->version();
  CHECK_ERROR(copy_(x, zeros({3})), "copy_: source has shape [3], expected a shape that broadcasts to [2]");
  CHECK_ERROR(add_(x, zeros({2, 2})), "add_: y has shape [2, 2], expected a shape that broadcasts to [2]");
  CHECK_ERROR(add_(x, zeros({2})), "add_: y has dtype f32, expected an integer dtype for x of dtype i64");
  CHECK_ERROR(add_(x, x, 0.5), "add_: scale is 0.5, expected a whole number that i64 holds");
  CHECK_ERROR(mul_(x, 0.5), "mul_: factor is 0.5, expected a whole number that i64 holds");
  CHECK_ERROR(fill_(x, 0.5), "fill_: value is 0.5, expected a whole number that i64 holds");
  Tensor undefined;
  CHECK_ERROR(fill_(undefined, 0), "fill_: x is undefined, expected a tensor");
  CHECK_ERROR(mul_(x, undefined), "mul_: y is undefined, expected a tensor");
  CHECK(x.to_vector<int64_t>() == std::vector<int64_t>{1, 2});
  CHECK(x.storage()->version() == before);
}
