// rand, randn, randint, dropout and multinomial.
#include "ops/random.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "deltatape.h"
#include "tests/support/errors.h"

using namespace deltatape;

TEST_CASE("rand, randn, randint: dtype, shape, and one element of the stream per element") {
  Generator generator(1);
  const Tensor x = rand({2, 3}, generator, {DType::f64, Device::cpu()});
  CHECK(x.dtype() == DType::f64);
  CHECK(x.shape() == Shape{2, 3});
  CHECK(generator.state().offset == 6);
  const Tensor y = randn({5}, generator, {DType::bf16, Device::cpu()});
  CHECK(y.dtype() == DType::bf16);
  CHECK(generator.state().offset == 11);
  const Tensor z = randint(-2, 3, {4}, generator, {DType::i32, Device::cpu()});
  CHECK(z.dtype() == DType::i32);
  CHECK(generator.state().offset == 15);
  CHECK(rand({0, 3}, generator).numel() == 0);
  CHECK(generator.state().offset == 15);
  CHECK(!x.requires_grad());

  Generator again(1);
  CHECK(rand({2, 3}, again, {DType::f64, Device::cpu()}).to_vector<double>() == x.to_vector<double>());
  // A tensor drawn in two parts is the tensor drawn at once.
  Generator at_once(7);
  Generator in_parts(7);
  const std::vector<float> whole = randn({10}, at_once).to_vector<float>();
  std::vector<float> parts = randn({4}, in_parts).to_vector<float>();
  for (const float value : randn({6}, in_parts).to_vector<float>()) {
    parts.push_back(value);
  }
  CHECK(whole == parts);
}

TEST_CASE("rand, randn, randint: errors name the argument, and no number is used up") {
  Generator generator(1);
  CHECK_ERROR(rand({2}, generator, {DType::i64, Device::cpu()}), "rand: dtype is i64, expected floating point");
  CHECK_ERROR(randn({2}, generator, {DType::boolean, Device::cpu()}), "randn: dtype is bool, expected floating point");
  CHECK_ERROR(randint(0, 2, {2}, generator, {DType::f32, Device::cpu()}), "randint: dtype is f32, expected i64 or i32");
  CHECK_ERROR(randint(3, 3, {2}, generator), "randint: low is 3 and high is 3, expected low < high");
  CHECK_ERROR(randint(0, int64_t{1} << 32, {2}, generator, {DType::i32, Device::cpu()}),
              "randint: the range is [0, 4294967296), expected one that i32 holds");
  CHECK_ERROR(rand({-1}, generator), "empty: shape is [-1], expected sizes of 0 or more");
  CHECK(generator.state().offset == 0);
}

TEST_CASE("dropout: zeros and scaled elements in the right shares; the gradient follows the same mask") {
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16, DType::f16}) {
    Generator generator(2);
    Tensor x = to(add(rand({4000}, generator), 1.0), dtype);
    x = x.detach();
    x.set_requires_grad();
    const Tensor y = dropout(x, 0.25, generator);
    CHECK(y.dtype() == dtype);
    sum(y).backward();
    const std::vector<double> from = x.to_vector<double>();
    const std::vector<double> kept = y.to_vector<double>();
    const std::vector<double> gradient = x.grad().to_vector<double>();
    const double tolerance = dtype == DType::bf16 || dtype == DType::f16 ? 0x1p-8 : 1e-6;
    int zeros_count = 0;
    for (size_t i = 0; i < from.size(); ++i) {
      zeros_count += static_cast<int>(kept[i] == 0.0);
      const double expected = kept[i] == 0.0 ? 0.0 : from[i] / 0.75;
      REQUIRE(std::abs(kept[i] - expected) <= tolerance * 4);
      REQUIRE(std::abs(gradient[i] - (kept[i] == 0.0 ? 0.0 : 1 / 0.75)) <= tolerance);
    }
    CHECK(std::abs(zeros_count - 1000) <= 140);  // five standard deviations
  }
}

TEST_CASE("dropout: second derivatives, p of 0, errors") {
  Generator generator(3);
  Tensor x = rand({50}, generator, {DType::f64, Device::cpu()});
  x.set_requires_grad();
  Generator first(4);
  const Tensor y = dropout(mul(x, x), 0.5, first);
  const Tensor dx = grad(sum(y), x, Tensor(), {.create_graph = true});
  const std::vector<double> second = grad(sum(dx), x).to_vector<double>();
  const std::vector<double> mask = y.to_vector<double>();
  for (size_t i = 0; i < second.size(); ++i) {
    CHECK(second[i] == (mask[i] == 0.0 ? 0.0 : 4.0));
  }
  const PhiloxState before = generator.state();
  CHECK(dropout(x, 0.0, generator).is_same(x));
  CHECK(generator.state().offset == before.offset);
  CHECK_ERROR(dropout(x, 1.0, generator), "dropout: p is 1, expected 0 <= p < 1");
  CHECK_ERROR(dropout(x, -0.5, generator), "dropout: p is -0.5, expected 0 <= p < 1");
  CHECK_ERROR(dropout(x, std::nan(""), generator), "dropout: p is nan, expected 0 <= p < 1");
  CHECK_ERROR(dropout(Tensor(), 0.5, generator), "dropout: x is undefined");
  CHECK_ERROR(dropout(from_vector<int64_t>({1}), 0.5, generator), "dropout: dtype is i64, expected floating point");
}

TEST_CASE("multinomial: frequencies follow the weights, weights of 0 are never drawn") {
  Generator generator(5);
  const Tensor weights = from_vector<float>({0, 1, 3, 0, 0, 0, 0, 2}, {2, 4});
  const Tensor drawn = multinomial(weights, 4000, generator);
  CHECK(drawn.shape() == Shape{2, 4000});
  CHECK(drawn.dtype() == DType::i64);
  std::vector<int> counts(8, 0);
  const std::vector<int64_t> values = drawn.to_vector<int64_t>();
  for (size_t i = 0; i < values.size(); ++i) {
    ++counts[(i / 4000) * 4 + static_cast<size_t>(values[i])];
  }
  CHECK(counts[0] == 0);
  CHECK(std::abs(counts[1] - 1000) <= 140);
  CHECK(counts[3] == 0);
  CHECK(counts[7] == 4000);
  CHECK(multinomial(from_vector<float>({1, 1}), 3, generator).shape() == Shape{3});
  CHECK(multinomial(empty({0, 4}), 3, generator).shape() == Shape{0, 3});
  CHECK(multinomial(weights, 0, generator).shape() == Shape{2, 0});
  // A view with strides, and 16-bit weights.
  const Tensor transposed = transpose(weights, 0, 1);
  const std::vector<int64_t> column =
      multinomial(to(slice(transposed, 0, {1, 3}), DType::bf16), 5, generator).to_vector<int64_t>();
  CHECK(std::vector<int64_t>(column.begin(), column.end()) == std::vector<int64_t>(10, 0));
}

TEST_CASE("multinomial: errors, and no number is used up") {
  Generator generator(6);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
  CHECK_ERROR(multinomial(from_vector<float>({1, -1}), 1, generator),
              "multinomial: weights is -1 at row 0, column 1, expected a finite number of 0 or more");
  CHECK_ERROR(multinomial(from_vector<float>({1, 1, nan, 1}, {2, 2}), 1, generator),
              "multinomial: weights is nan at row 1, column 0, expected a finite number of 0 or more");
  CHECK_ERROR(multinomial(from_vector<float>({inf}), 1, generator),
              "multinomial: weights is inf at row 0, column 0, expected a finite number of 0 or more");
  CHECK_ERROR(multinomial(from_vector<float>({1, 1, 0, 0}, {2, 2}), 1, generator),
              "multinomial: weights has sum 0 in row 1, expected more than 0");
  CHECK_ERROR(multinomial(from_vector<int64_t>({1}), 1, generator),
              "multinomial: weights has dtype i64, expected floating point");
  CHECK_ERROR(multinomial(from_vector<float>({1}, {}), 1, generator),
              "multinomial: weights has shape [], expected rank 1 or more");
  CHECK_ERROR(multinomial(from_vector<float>({1}), -1, generator), "multinomial: count is -1, expected 0 or more");
  CHECK_ERROR(multinomial(empty({2, 0}), 1, generator),
              "multinomial: weights has shape [2, 0], expected at least one choice");
  CHECK_ERROR(multinomial(from_vector<double>({1e308, 1e308}), 1, generator),
              "multinomial: weights has sum inf in row 0, expected a finite sum");
  CHECK_ERROR(multinomial(ones({4, 2}), int64_t{1} << 61, generator),
              "multinomial: count is 2305843009213693952 for weights of shape [4, 2], expected a result that fits in "
              "memory");
  CHECK_ERROR(multinomial(Tensor(), 1, generator), "multinomial: weights is undefined");
  CHECK(generator.state().offset == 0);
}
