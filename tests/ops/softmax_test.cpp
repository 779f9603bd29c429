#include "ops/softmax.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "autograd/backward.h"
#include "autograd/gradcheck.h"
#include "ops/ops.h"
#include "tests/support/compare.h"
#include "tests/support/errors.h"
#include "tests/support/random_tensors.h"

using namespace deltatape;
using namespace deltatape::test;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

void check_gradients(const std::function<Tensor(const Tensor&)>& f, const Tensor& x) {
  const TensorFunction call = [&](const std::vector<Tensor>& inputs) { return std::vector<Tensor>{f(inputs[0])}; };
  const GradcheckReport first = gradcheck(call, {x});
  CHECK_MESSAGE(first.ok, first.text());
  const GradcheckReport second = gradgradcheck(call, {x});
  CHECK_MESSAGE(second.ok, second.text());
}

}  // namespace

TEST_CASE("softmax, log_softmax: large and hidden entries") {
  for (const DType dtype : {DType::f64, DType::f32, DType::bf16}) {
    const Tensor x = to(from_vector<double>({1e4, 1e4, -kInfinity, -1e4, -1e4, -1e4}, {2, 3}), dtype);
    const double third = 1.0 / 3.0;
    check_close("softmax", softmax(x, -1), to(from_vector<double>({0.5, 0.5, 0, third, third, third}, {2, 3}), dtype),
                rounding(dtype, 4));
    const Tensor log = log_softmax(x, -1);
    CHECK(log.to_vector<double>()[2] == -kInfinity);
    CHECK(log.to_vector<double>()[3] == doctest::Approx(-std::log(3.0)).epsilon(1e-2));
  }
  // The logarithm of a probability that underflows.
  CHECK(log_softmax(from_vector<double>({0, -2000}), 0).to_vector<double>()[1] == -2000.0);
}

TEST_CASE("softmax, log_softmax: first and second derivatives along any dimension") {
  const Tensor x = random_tensor({2, 3, 2}, 1);
  for (const int64_t dim : {0, 1, -1}) {
    check_gradients([dim](const Tensor& t) { return softmax(t, dim); }, x);
    check_gradients([dim](const Tensor& t) { return log_softmax(t, dim); }, x);
  }
}

TEST_CASE("cross_entropy: long rows, with the largest entry late and hidden entries early") {
  for (const DType dtype : {DType::f64, DType::f32}) {
    constexpr int64_t kClasses = 3001;
    std::vector<double> values = random_tensor({2, kClasses}, 5).to_vector<double>();
    std::fill_n(values.begin(), 1500, -kInfinity);
    values[2500] = 9.0;
    Tensor x = to(from_vector(values, {2, kClasses}), dtype);
    x.set_requires_grad();
    const Tensor target = from_vector<int64_t>({2000, 7});
    const Tensor loss = cross_entropy(x, target);
    const Tensor expected = neg(mean(gather(log_softmax(x, -1), 1, reshape(target, {2, 1}))));
    check_close("loss", loss, expected, rounding(dtype, 16));
    check_close("gradient", grad(loss, x), grad(expected, x), rounding(dtype, 16));
    CHECK(grad(cross_entropy(x, target), x).to_vector<double>()[3] == 0.0);
  }
}

TEST_CASE("cross_entropy: a gradient too large for the caches, with rows that start anywhere") {
  constexpr int64_t kRows = 1400;
  constexpr int64_t kClasses = 3001;  // odd: one row in 16 starts at a whole line of a cache
  Tensor x = random_tensor({kRows, kClasses}, 6, DType::f32, -3.0, 3.0);
  x.set_requires_grad();
  const Tensor target = random_indices({kRows}, 7, kClasses);
  const double share = 1.0 / static_cast<double>(kRows);
  const Tensor expected =
      scatter_add(mul(softmax(to(x.detach(), DType::f64), -1), share), 1, reshape(target, {kRows, 1}),
                  full({kRows, 1}, -share, {DType::f64, Device::cpu()}));
  check_close("gradient", grad(cross_entropy(x, target), x), to(expected, DType::f32), rounding(DType::f32, 16));
}

TEST_CASE("softmax: no gradient reaches a hidden entry") {
  Tensor x = from_vector<double>({0, 1, -kInfinity});
  x.set_requires_grad();
  const std::vector<double> dx = grad(sum(square(softmax(x, 0))), x).to_vector<double>();
  CHECK(dx[2] == 0.0);
  CHECK(std::isfinite(dx[0]));
}

TEST_CASE("cross_entropy: mean and sum over the targets that count") {
  const Tensor logits = from_vector<double>({1, 2, 3, 0, 0, 0, 5, 1, 1}, {3, 3});
  const Tensor target = from_vector<int64_t>({2, -100, 0});
  const auto row = [](double a, double b, double c, double picked) {
    return std::log(std::exp(a) + std::exp(b) + std::exp(c)) - picked;
  };
  const double expected = row(1, 2, 3, 3) + row(5, 1, 1, 5);
  CHECK(cross_entropy(logits, target).item() == doctest::Approx(expected / 2).epsilon(1e-12));
  CHECK(cross_entropy(logits, target, {-100, true}).item() == doctest::Approx(expected).epsilon(1e-12));
  CHECK(cross_entropy(reshape(logits, {1, 3, 3}), reshape(target, {1, 3})).item() ==
        cross_entropy(logits, target).item());
  CHECK(cross_entropy(from_vector<double>({0, 0}), to(scalar(1), DType::i64)).item() == doctest::Approx(std::log(2.0)));
}

TEST_CASE("cross_entropy: gradients, also of a row that does not count, and of a row of NaN that does not") {
  const Tensor target = from_vector<int64_t>({2, 7, 0, 2}, {2, 2});
  const CrossEntropyOptions ignoring_seven{7, false};
  check_gradients([&](const Tensor& x) { return cross_entropy(x, target, ignoring_seven); },
                  random_tensor({2, 2, 3}, 1));
  check_gradients(
      [&](const Tensor& x) {
        return cross_entropy(x, from_vector<int64_t>({1, 0}), {-100, true});
      },
      random_tensor({2, 3}, 2));
  Tensor x = from_vector<double>({0, 0, NAN, NAN}, {2, 2});
  x.set_requires_grad();
  const Tensor loss = cross_entropy(x, from_vector<int64_t>({1, -100}));
  CHECK(loss.item() == doctest::Approx(std::log(2.0)));
  CHECK(grad(loss, x).to_vector<double>() == std::vector<double>{0.5, -0.5, 0, 0});
}

TEST_CASE("cross_entropy: an upstream gradient that is not finite stays out of a row that does not count") {
  Tensor x = from_vector<double>({1, 2, 3, 4}, {2, 2});
  x.set_requires_grad();
  for (const double upstream : {kInfinity, std::nan("")}) {
    for (const bool recorded : {false, true}) {
      CAPTURE(upstream);
      CAPTURE(recorded);
      const Tensor loss = cross_entropy(x, from_vector<int64_t>({1, -100}));
      const Tensor dy = full({}, upstream, {DType::f64, Device::cpu()});
      BackwardOptions options;
      options.create_graph = recorded;
      const std::vector<double> dx =
          grad(std::span(&loss, 1), std::span(&x, 1), std::span(&dy, 1), options)[0].to_vector<double>();
      CHECK_FALSE(std::isfinite(dx[0]));
      CHECK(dx[2] == 0.0);
      CHECK(dx[3] == 0.0);
    }
  }
}

TEST_CASE("cross_entropy: NaN when no target counts, and a gradient of zero") {
  Tensor x = ones({2, 3}, {DType::f64, Device::cpu()});
  x.set_requires_grad();
  const Tensor none = from_vector<int64_t>({-100, -100});
  const Tensor loss = cross_entropy(x, none);
  CHECK(std::isnan(loss.item()));
  CHECK(grad(loss, x).to_vector<double>() == std::vector<double>(6, 0.0));
  CHECK(cross_entropy(x, none, {-100, true}).item() == 0.0);
  CHECK(std::isnan(cross_entropy(zeros({0, 3}), zeros({0}, {DType::i64, Device::cpu()})).item()));
}

TEST_CASE("cross_entropy: large and 16-bit logits are computed in f32") {
  CHECK(cross_entropy(from_vector<float>({1e4F, 0}, {1, 2}), from_vector<int64_t>({0})).item() == 0.0);
  CHECK(cross_entropy(from_vector<float>({1e4F, 0}, {1, 2}), from_vector<int64_t>({1})).item() == 1e4);
  Tensor x = to(random_tensor({64, 50}, 1), DType::bf16);
  x.set_requires_grad();
  const Tensor target = random_indices({64}, 2, 50);
  const Tensor loss = cross_entropy(x, target);
  CHECK(loss.dtype() == DType::f32);
  Tensor wide = to(x.detach(), DType::f64);
  wide.set_requires_grad();
  const Tensor expected = cross_entropy(wide, target);
  CHECK(loss.item() == doctest::Approx(expected.item()).epsilon(1e-6));
  check_close("gradient", to(grad(loss, x), DType::f64), grad(expected, wide), rounding(DType::bf16, 2));
}

TEST_CASE("softmax, cross_entropy: errors name the function, the argument and what came") {
  const Tensor logits = zeros({2, 3});
  CHECK_ERROR(softmax(logits, 2), "softmax: dim is 2, expected -2 to 1 for a tensor of rank 2");
  CHECK_ERROR(log_softmax(from_vector<int64_t>({1}), 0),
              "log_softmax: x has dtype i64, expected a floating-point dtype");
  CHECK_ERROR(cross_entropy(logits, from_vector<int64_t>({0, 3})),
              "cross_entropy: target is 3 at [1], expected 0 <= index < 3 or ignore_index = -100");
  CHECK_ERROR(cross_entropy(logits, from_vector<int64_t>({0})),
              "cross_entropy: target has shape [1], expected logits' shape without C = [2]");
  CHECK_ERROR(cross_entropy(zeros({2, 0}), from_vector<int64_t>({-100, -100})),
              "cross_entropy: logits has shape [2, 0], expected at least one class");
  CHECK_ERROR(cross_entropy(logits, zeros({2})), "cross_entropy: target has dtype f32, expected i64 or i32");
}
