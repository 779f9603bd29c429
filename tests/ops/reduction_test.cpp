#include "ops/reduction.h"

#include <doctest/doctest.h>
#include <omp.h>

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

using Function = std::function<Tensor(const Tensor&)>;

void check_gradients(const Function& f, const Tensor& x) {
  const TensorFunction call = [&](const std::vector<Tensor>& inputs) { return std::vector<Tensor>{f(inputs[0])}; };
  const GradcheckReport first = gradcheck(call, {x});
  CHECK_MESSAGE(first.ok, first.text());
  const GradcheckReport second = gradgradcheck(call, {x});
  CHECK_MESSAGE(second.ok, second.text());
}

std::vector<double> gradient_of(const Function& f, Tensor x) {
  x.set_requires_grad();
  return grad(f(x), x).to_vector<double>();
}

}  // namespace

TEST_CASE("sum: dims may be negative, several, none; keepdim leaves ones") {
  const Tensor x = from_vector<double>({0, 1, 2, 3, 4, 5}, {1, 2, 3});
  CHECK(sum(x).item() == 15.0);
  CHECK(sum(x).shape() == Shape{});
  CHECK(sum(x, {-1}).to_vector<double>() == std::vector<double>{3, 12});
  CHECK(sum(x, {-1}).shape() == Shape{1, 2});
  CHECK(sum(x, {0, 2}, true).shape() == Shape{1, 2, 1});
  CHECK(sum(x, Shape{}).to_vector<double>() == x.to_vector<double>());
}

TEST_CASE("sum: integers and bool give i64") {
  CHECK(sum(from_vector<int32_t>({2000000000, 2000000000})).to_vector<int64_t>()[0] == 4000000000);
  const Tensor count = sum(from_vector<bool>({true, false, true}, {3}));
  CHECK(count.dtype() == DType::i64);
  CHECK(count.item() == 2.0);
}

TEST_CASE("mean, var: NaN where there is nothing to average") {
  CHECK(std::isnan(mean(zeros({0})).item()));
  CHECK(std::isnan(var(ones({1}), {0}).item()));
  CHECK(std::isnan(var(from_vector<double>({1, 2}), {0}, 2).item()));
  CHECK(var(from_vector<double>({1, 2, 6}), {0}, 0).item() == doctest::Approx(14.0 / 3.0));
}

TEST_CASE("mean: a sum beyond f16 does no harm") {
  CHECK(mean(full({4096}, 100.0, {DType::f16, Device::cpu()})).item() == 100.0);
}

TEST_CASE("prod: gradients with no, one and several zeros, without NaN") {
  const Function product = [](const Tensor& x) { return prod(x, 1); };
  const Tensor x = from_vector<double>({2, 3, 4, 5, 6, 0, 4, 5, 0, 3, 0, 5}, {3, 4});
  CHECK(product(x).to_vector<double>() == std::vector<double>{120, 0, 0});
  Tensor leaf = x.detach();
  leaf.set_requires_grad();
  CHECK(grad(sum(product(leaf)), leaf).to_vector<double>() ==
        std::vector<double>{60, 40, 30, 24, 0, 120, 0, 0, 0, 0, 0, 0});
  check_gradients(product, x);
  check_gradients([](const Tensor& t) { return prod(t, 0); }, random_tensor({5, 2}, 1));
}

TEST_CASE("max, min: the gradient goes to the first of equal entries, and NaN wins") {
  const Tensor ties = from_vector<double>({1, 3, 3, 0, 0, 2}, {6});
  CHECK(gradient_of([](const Tensor& x) { return max(x, 0); }, ties) == std::vector<double>{0, 1, 0, 0, 0, 0});
  CHECK(gradient_of([](const Tensor& x) { return min(x); }, ties) == std::vector<double>{0, 0, 0, 1, 0, 0});
  CHECK(argmax(ties, 0).item() == 1.0);
  CHECK(argmin(ties, 0).item() == 3.0);
  const Tensor spoilt = from_vector<float>({1, NAN, 5});
  CHECK(std::isnan(max(spoilt).item()));
  CHECK(std::isnan(min(spoilt, 0).item()));
  CHECK(argmax(spoilt, 0).item() == 1.0);
}

TEST_CASE("logsumexp: large and infinite entries") {
  const Function f = [](const Tensor& x) { return logsumexp(x, -1); };
  const Tensor large = from_vector<double>({1000, 1000, -1e5, -1000, -1000, -1000}, {2, 3});
  check_close("value", f(large), from_vector<double>({1000 + std::log(2.0), -1000 + std::log(3.0)}),
              rounding(DType::f64, 4));
  Tensor leaf = large.detach();
  leaf.set_requires_grad();
  const Tensor third = from_vector<double>({0.5, 0.5, 0, 1.0 / 3, 1.0 / 3, 1.0 / 3}, {2, 3});
  check_close("gradient", grad(sum(f(leaf)), leaf), third, {1e-12});

  const Tensor hidden = full({3}, -kInfinity, {DType::f64, Device::cpu()});
  CHECK(f(hidden).item() == -kInfinity);
  CHECK(gradient_of(f, hidden) == std::vector<double>{0, 0, 0});
  const Tensor partly = from_vector<double>({-kInfinity, 2, 2});
  CHECK(f(partly).item() == doctest::Approx(2 + std::log(2.0)));
  CHECK(gradient_of(f, partly)[0] == 0.0);
  CHECK(f(from_vector<double>({1, kInfinity})).item() == kInfinity);
  CHECK(std::isnan(f(from_vector<double>({1, NAN})).item()));
  CHECK(logsumexp(zeros({2, 0}), 1).to_vector<double>() == std::vector<double>{-kInfinity, -kInfinity});
}

TEST_CASE("cumsum of a large tensor gives what its columns give by themselves") {
  constexpr int64_t kRows = 4099;
  for (const int64_t columns : {1024, 1030}) {  // rows of whole cache lines, and not
    const Tensor x = to(random_tensor({kRows, columns}, 3), DType::f32);
    for (const bool reverse : {false, true}) {
      CAPTURE(columns);
      CAPTURE(reverse);
      const Tensor sums = cumsum(x, 0, reverse);
      for (const int64_t first : {int64_t{0}, int64_t{500}, columns - 24}) {
        const Tensor part = contiguous(slice(x, 1, {first, first + 24}));
        CHECK(contiguous(slice(sums, 1, {first, first + 24})).to_vector<float>() ==
              cumsum(part, 0, reverse).to_vector<float>());
      }
    }
  }
}

TEST_CASE("cumsum: both directions are each other's gradient") {
  const Tensor x = from_vector<double>({1, 2, 3, 4}, {2, 2});
  CHECK(cumsum(x, 0).to_vector<double>() == std::vector<double>{1, 2, 4, 6});
  CHECK(cumsum(x, 1, true).to_vector<double>() == std::vector<double>{3, 2, 7, 4});
  check_gradients([](const Tensor& t) { return square(cumsum(t, 1)); }, x);
}

TEST_CASE("cumsum: more lines side by side than are walked at once") {
  const Tensor x = random_tensor({3, 2100}, 3, DType::f32);
  const std::vector<double> values = x.to_vector<double>();
  const int threads = omp_get_max_threads();
  for (const int count : {1, threads}) {
    CAPTURE(count);
    omp_set_num_threads(count);
    const std::vector<double> down = cumsum(x, 0).to_vector<double>();
    const std::vector<double> up = cumsum(x, 0, true).to_vector<double>();
    omp_set_num_threads(threads);
    for (size_t c = 0; c < 2100; ++c) {
      const double column[3] = {values[c], values[2100 + c], values[4200 + c]};
      for (size_t i = 0; i < 3; ++i) {
        const double before = i == 0 ? column[0] : i == 1 ? column[0] + column[1] : column[0] + column[1] + column[2];
        const double after = i == 2 ? column[2] : i == 1 ? column[2] + column[1] : column[2] + column[1] + column[0];
        REQUIRE(down[i * 2100 + c] == static_cast<double>(static_cast<float>(before)));
        REQUIRE(up[i * 2100 + c] == static_cast<double>(static_cast<float>(after)));
      }
    }
  }
}

TEST_CASE("argmax, argmin: more lines side by side than are walked at once") {
  const Tensor x = random_tensor({3, 2100}, 4, DType::f32);
  const std::vector<double> values = x.to_vector<double>();
  const auto largest = argmax(x, 0).to_vector<int64_t>();
  const auto smallest = argmin(x, 0).to_vector<int64_t>();
  for (size_t c = 0; c < 2100; ++c) {
    const std::vector<double> column{values[c], values[2100 + c], values[4200 + c]};
    REQUIRE(largest[c] == std::max_element(column.begin(), column.end()) - column.begin());
    REQUIRE(smallest[c] == std::min_element(column.begin(), column.end()) - column.begin());
  }
}

TEST_CASE("norm: the gradient at 0 is 0") {
  CHECK(norm(from_vector<double>({3, 4})).item() == 5.0);
  CHECK(gradient_of([](const Tensor& x) { return norm(x); }, zeros({3})) == std::vector<double>{0, 0, 0});
  check_gradients([](const Tensor& x) { return norm(x); }, random_tensor({2, 3}, 2));
}

TEST_CASE("reductions: errors name the function, the argument and what came") {
  const Tensor x = zeros({2, 0});
  CHECK_ERROR(sum(x, {0, -2}), "sum: dims is [0, -2], expected distinct dimensions");
  CHECK_ERROR(mean(x, {2}), "mean: an entry of dims is 2, expected -2 to 1 for a tensor of rank 2");
  CHECK_ERROR(mean(from_vector<int64_t>({1})), "mean: x has dtype i64, expected a floating-point dtype");
  CHECK_ERROR(max(x, 1), "max: x has shape [2, 0], expected a size above 0 along dimension 1");
  CHECK_ERROR(argmin(x, -1), "argmin: x has shape [2, 0], expected a size above 0 along dimension 1");
  CHECK_ERROR(var(ones({2}), {0}, -1), "var: correction is -1, expected 0 or more");
  CHECK_ERROR(logsumexp(Tensor(), 0), "logsumexp: x is undefined, expected a tensor");
}
