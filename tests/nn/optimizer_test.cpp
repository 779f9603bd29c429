#include "nn/optimizer.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "nn/schedule.h"
#include "ops/convert.h"
#include "ops/creation.h"
#include "ops/views.h"
#include "tests/support/errors.h"
#include "tests/support/random_tensors.h"

namespace deltatape {
namespace {

Tensor leaf(const std::vector<double>& values, const Shape& shape) {
  Tensor x = from_vector(values, shape);
  x.set_requires_grad();
  return x;
}

void check_values(const Tensor& x, const std::vector<double>& expected) {
  const auto values = x.to_vector<double>();
  REQUIRE(values.size() == expected.size());
  for (size_t i = 0; i < values.size(); ++i) {
    CHECK(std::fabs(values[i] - expected[i]) <= 1e-14 * std::max(1.0, std::fabs(expected[i])));
  }
}

TEST_CASE("AdamW: three steps by scalar arithmetic; only matrices decay") {
  Tensor matrix = leaf({1.0, -2.0}, {1, 2});
  Tensor vector = leaf({0.5}, {1});
  Tensor unused = leaf({3.0}, {1});
  nn::AdamW optimizer({{"matrix", matrix}, {"vector", vector}, {"unused", unused}}, {0.1, 0.9, 0.99, 1e-3, 0.2});
  std::vector<double> p{1.0, -2.0, 0.5};
  std::vector<double> m(3, 0.0);
  std::vector<double> v(3, 0.0);
  for (int k = 1; k <= 3; ++k) {
    const std::vector<double> g{0.3 * k, -1.0, 2.0 / k};
    matrix.set_grad(from_vector(std::vector<double>{g[0], g[1]}, {1, 2}));
    vector.set_grad(from_vector(std::vector<double>{g[2]}));
    const double lr = k == 3 ? 0.05 : 0.1;
    optimizer.set_learning_rate(lr);
    optimizer.step();
    for (size_t i = 0; i < 3; ++i) {
      p[i] *= i < 2 ? 1.0 - lr * 0.2 : 1.0;
      m[i] = 0.9 * m[i] + 0.1 * g[i];
      v[i] = 0.99 * v[i] + 0.01 * g[i] * g[i];
      p[i] -= lr / (1 - std::pow(0.9, k)) * m[i] / (std::sqrt(v[i]) / std::sqrt(1 - std::pow(0.99, k)) + 1e-3);
    }
    check_values(matrix, {p[0], p[1]});
    check_values(vector, {p[2]});
  }
  check_values(unused, {3.0});
  optimizer.zero_grad();
  CHECK_FALSE(matrix.grad().defined());
}

TEST_CASE("AdamW: moments of 16-bit parameters stay in f32; long and strided parameters") {
  constexpr int64_t kCount = 2051;  // more than a block, and a rest
  Tensor narrow = to(ones({kCount}), DType::bf16);
  Tensor wide = ones({kCount});
  Tensor strided = transpose(ones({kCount, 2}), 0, 1);
  std::vector<Tensor> parameters{narrow, wide, strided};
  for (Tensor& p : parameters) {
    p = p.detach();
    p.set_requires_grad();
    p.set_grad(full(p.shape(), 0.5, p.options()));
  }
  nn::AdamW optimizer({{"narrow", parameters[0]}, {"wide", parameters[1]}, {"strided", parameters[2]}},
                      {0.125, 0.9, 0.99, 1e-8, 0.5});
  optimizer.step();
  // The first step is the learning rate, whatever the gradient; only the matrix decays.
  const double expected[3] = {0.875, 0.875, 1.0 - 0.125 * 0.5 - 0.125};
  for (size_t i = 0; i < 3; ++i) {
    for (const double value : parameters[i].to_vector<double>()) {
      REQUIRE(std::fabs(value - expected[i]) <= 1e-6);
    }
  }
  const nn::StateDict state = optimizer.state_dict();
  CHECK(state.at("exp_avg.narrow").dtype() == DType::f32);
  CHECK(std::fabs(state.at("exp_avg.narrow").to_vector<double>().back() - 0.05) <= 1e-8);
  CHECK(std::fabs(state.at("exp_avg_sq.narrow").to_vector<double>().back() - 0.0025) <= 1e-9);
}

TEST_CASE("SGD: momentum and decay by scalar arithmetic") {
  Tensor x = leaf({1.0}, {1});
  nn::SGD optimizer({{"x", x}}, {0.1, 0.5, 0.01});
  double p = 1.0;
  double m = 0.0;
  for (int k = 1; k <= 3; ++k) {
    x.set_grad(from_vector(std::vector<double>{0.7 * k}));
    optimizer.step();
    m = 0.5 * m + 0.7 * k + 0.01 * p;
    p -= 0.1 * m;
    check_values(x, {p});
  }
}

TEST_CASE("Optimizer: a restored state goes on as if nothing had happened") {
  const auto run = [](bool restart) {
    Tensor x = leaf({1.0, 2.0}, {1, 2});
    auto optimizer = std::make_unique<nn::AdamW>(nn::NamedTensors{{"x", x}});
    for (int k = 0; k < 4; ++k) {
      if (restart && k == 2) {
        const nn::StateDict saved = optimizer->state_dict();
        CHECK(saved.at("step").item() == 2.0);
        auto fresh = std::make_unique<nn::AdamW>(nn::NamedTensors{{"x", x}});
        fresh->load_state_dict(saved);
        optimizer = std::move(fresh);
      }
      x.set_grad(from_vector(std::vector<double>{1.0 + k, -1.0}, {1, 2}));
      optimizer->step();
    }
    return x.to_vector<double>();
  };
  CHECK(run(false) == run(true));
  Tensor x = leaf({1.0}, {1});
  nn::AdamW optimizer({{"x", x}});
  CHECK_ERROR(optimizer.load_state_dict({{"step", zeros({}, {DType::i64, Device::cpu()})}}),
              "AdamW::load_state_dict: 2 missing: exp_avg.x, exp_avg_sq.x");
  nn::StateDict state{
      {"step", full({}, -1.0, {DType::i64, Device::cpu()})}, {"exp_avg.x", ones({1})}, {"exp_avg_sq.x", ones({1})}};
  CHECK_ERROR(optimizer.load_state_dict(state),
              "AdamW::load_state_dict: step is -1, expected an integer of at least 0");
  CHECK(optimizer.state_dict().at("exp_avg.x").item() == 0.0);
}

TEST_CASE("Optimizer: options out of range") {
  Tensor x = leaf({1.0}, {1});
  CHECK_ERROR(nn::AdamW({{"x", x}}, {-1.0, 0.9, 0.95, 1e-8, 0.1}),
              "AdamW: learning_rate is -1, expected a finite number of at least 0");
  CHECK_ERROR(nn::AdamW({{"x", x}}, {0.1, 1.0, 0.95, 1e-8, 0.1}), "AdamW: beta1 is 1, expected 0 <= beta1 < 1");
  CHECK_ERROR(nn::SGD({{"x", x}, {"x", x}}), "SGD: the name x occurs twice");
  CHECK_ERROR(nn::SGD({{"x", x}, {"y", x}}), "SGD: parameters x and y are the same tensor, expected it once");
  CHECK_ERROR(nn::SGD({{"x", ones({1})}}), "SGD: parameter x is no leaf that requires a gradient");
  Tensor overlapping = expand(ones({1, 3}), {2, 3}).detach();
  overlapping.set_requires_grad();
  CHECK_ERROR(
      nn::AdamW({{"w", overlapping}}),
      "AdamW: parameter w has shape [2, 3] and strides [0, 1], expected elements that do not overlap in memory");
}

TEST_CASE("clip_grad_norm: the global norm, and gradients scaled only when it is too large") {
  Tensor a = leaf({0, 0}, {2});
  Tensor b = leaf({0}, {1});
  const Tensor without = leaf({1}, {1});
  a.set_grad(from_vector(std::vector<double>{3, 0}));
  b.set_grad(from_vector(std::vector<double>{4}));
  const std::vector<Tensor> parameters{a, b, without};
  CHECK(nn::grad_norm(parameters) == 5.0);
  CHECK(nn::clip_grad_norm(parameters, 10.0) == 5.0);
  check_values(b.grad(), {4});
  CHECK(nn::clip_grad_norm(parameters, 2.0) == 5.0);
  check_values(a.grad(), {3 * 2.0 / (5.0 + 1e-6), 0});
  check_values(b.grad(), {4 * 2.0 / (5.0 + 1e-6)});
  CHECK_ERROR(nn::clip_grad_norm(parameters, 0.0), "clip_grad_norm: max_norm is 0, expected a number above 0");
}

TEST_CASE("grad_norm: a gradient of several pieces") {
  const Tensor values = test::random_tensor({2 * 65536 + 1029}, 1);
  for (const DType dtype : {DType::f64, DType::f32, DType::bf16}) {
    CAPTURE(to_string(dtype));
    const Tensor g = to(values, dtype);
    double squares = 0.0;
    for (const double value : to(g, DType::f64).to_vector<double>()) {
      squares += value * value;
    }
    Tensor parameter = zeros(g.shape(), g.options());
    parameter.set_requires_grad();
    parameter.set_grad(g);
    CHECK(std::fabs(nn::grad_norm(std::span(&parameter, 1)) - std::sqrt(squares)) <= 1e-12 * std::sqrt(squares));
  }
}

TEST_CASE("Schedule: warm-up, cosine, and stable then linear") {
  const auto near = [](double x, double expected) { return std::fabs(x - expected) <= 1e-15; };
  const nn::Schedule flat = nn::Schedule::constant(0.002);
  CHECK(flat.at(0) == 0.002);
  CHECK(flat.at(1000000) == 0.002);
  const nn::Schedule cosine = nn::Schedule::cosine(0.003, 2, 8, 0.1);
  CHECK(near(cosine.at(0), 0.0015));
  CHECK(near(cosine.at(1), 0.003));
  CHECK(near(cosine.at(2), 0.003));
  CHECK(near(cosine.at(5), 0.00165));
  CHECK(near(cosine.at(7), 0.00048086570489100773));
  CHECK(near(cosine.at(8), 0.0003));
  CHECK(near(cosine.at(100), 0.0003));
  const nn::Schedule stable = nn::Schedule::warmup_stable_decay(1.0, 4, 20, 10, 0.2);
  CHECK(near(stable.at(0), 0.25));
  CHECK(near(stable.at(9), 1.0));
  CHECK(near(stable.at(15), 0.6));
  CHECK(near(stable.at(20), 0.2));
  CHECK_ERROR(nn::Schedule::cosine(0.1, 9, 8), "Schedule: total_steps is 8, expected at least warmup_steps = 9");
  CHECK_ERROR(nn::Schedule::cosine(0.1, 0, 8, 2.0), "Schedule: min_lr_ratio is 2, expected 0 to 1");
}

}  // namespace
}  // namespace deltatape
