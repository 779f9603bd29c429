// Every elementwise function of two tensors, comparisons, where, clamp and add_scaled against plain loops.
#include <doctest/doctest.h>

#include <cmath>
#include <functional>

#include "backends/elementwise_functions.h"
#include "tests/backends/kernel_inputs.h"

using namespace deltatape;
using namespace deltatape::test;

namespace {

using Wide = long double;

Wide sigmoid(Wide x) { return x < 0 ? std::exp(x) / (1 + std::exp(x)) : 1 / (1 + std::exp(-x)); }

struct Case {
  BinaryKind kind;
  std::function<Wide(Wide, Wide)> expected;
  double ulps_f32;  // also for f64
  bool special;     // whether special numbers are compared too: where the formula has one meaning for them
};

std::vector<Case> cases() {
  const Wide root_half = std::sqrt(Wide{0.5});
  const Wide density = 0.398942280401432677939946L;
  return {
      {BinaryKind::add, [](Wide a, Wide b) { return a + b; }, 1, true},
      {BinaryKind::sub, [](Wide a, Wide b) { return a - b; }, 1, true},
      {BinaryKind::mul, [](Wide a, Wide b) { return a * b; }, 1, true},
      {BinaryKind::div, [](Wide a, Wide b) { return a / b; }, 1, true},
      {BinaryKind::pow, [](Wide a, Wide b) { return std::pow(a, b); }, 2, true},
      {BinaryKind::maximum, [](Wide a, Wide b) { return std::isnan(a) || std::isnan(b) ? a + b : std::max(a, b); }, 0,
       true},
      {BinaryKind::minimum, [](Wide a, Wide b) { return std::isnan(a) || std::isnan(b) ? a + b : std::min(a, b); }, 0,
       true},
      {BinaryKind::sigmoid_backward, [](Wide y, Wide dy) { return dy * y * (1 - y); }, 4, false},
      {BinaryKind::tanh_backward, [](Wide y, Wide dy) { return dy * (1 - y) * (1 + y); }, 4, false},
      {BinaryKind::silu_backward, [](Wide x, Wide dy) { return dy * sigmoid(x) * (1 + x * (1 - sigmoid(x))); }, 100,
       false},
      {BinaryKind::gelu_backward,
       [=](Wide x, Wide dy) { return dy * (std::erfc(-x * root_half) / 2 + x * density * std::exp(-x * x / 2)); }, 1000,
       false},
      {BinaryKind::softplus_backward, [](Wide x, Wide dy) { return dy * sigmoid(x); }, 6, false},
  };
}

std::vector<double> ordinary_numbers(double scale) {
  std::vector<double> numbers;
  for (int i = 0; i < 911; ++i) {
    numbers.push_back(scale * std::sin(0.3 * i + 0.01 * i * i));
  }
  return numbers;
}

void check_all(const Case& which, const Tensor& a, const Tensor& b, const Tensor& out) {
  cpu().binary(which.kind, a, b, out);
  const std::vector<double> x = a.to_vector<double>();
  const std::vector<double> y = b.to_vector<double>();
  const std::vector<double> got = out.to_vector<double>();
  const DType dtype = out.dtype();
  const double ulps = dtype == DType::f32 || dtype == DType::f64 ? which.ulps_f32 : 1.0;
  size_t wrong = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const Wide want = which.expected(static_cast<Wide>(x[i]), static_cast<Wide>(y[i]));
    if (!is_near(dtype, got[i], want, ulps)) {
      ++wrong;
      MESSAGE("function ", static_cast<int>(which.kind), " of ", x[i], " and ", y[i], " as ", to_string(dtype),
              " gives ", got[i], ", expected ", static_cast<double>(want));
    }
  }
  CHECK(wrong == 0);
}

Strides reversed_order(const Shape& shape) {
  Strides strides = shape;
  int64_t step = 1;
  for (int dim = 0; dim < shape.rank(); ++dim) {
    strides[dim] = step;
    step *= shape[dim];
  }
  return strides;
}

}  // namespace

TEST_CASE("binary kernels: ordinary numbers in every floating dtype") {
  CHECK(cases().size() == elementwise::kBinaryKinds);
  for (const Case& which : cases()) {
    for (const DType dtype : kFloats) {
      const Placement dense{{1013}, {1}};
      std::vector<double> first = ordinary_numbers(3.0);
      if (which.kind == BinaryKind::pow) {
        for (double& number : first) {
          number = std::fabs(number);
        }
      }
      check_all(which, place(dense, dtype, first), place(dense, dtype, ordinary_numbers(2.0)), empty({1013}, dtype));
    }
  }
}

TEST_CASE("binary kernels: special numbers against each other") {
  const std::vector<double> numbers = telling_numbers();
  const int64_t count = 30;
  for (const Case& which : cases()) {
    for (const DType dtype : {DType::f32, DType::f64}) {
      if (which.special) {
        const Tensor a = place({{count, count}, {1, 0}}, dtype, numbers);
        const Tensor b = place({{count, count}, {0, 1}}, dtype, numbers);
        check_all(which, a, b, empty({count, count}, dtype));
      }
    }
  }
}

TEST_CASE("binary kernels: every layout of either operand") {
  for (const Placement& placement : placements()) {
    const Placement dense{placement.shape, contiguous_strides(placement.shape)};
    const Placement turned{placement.shape, reversed_order(placement.shape)};
    const Placement single{placement.shape, Shape::filled(placement.shape.rank(), 0)};
    for (const DType dtype : kFloats) {
      const Tensor a = place(placement, dtype, ordinary_numbers(1.0));
      for (const Placement& other : {dense, turned, single, placement}) {
        const Tensor b = place(other, dtype, ordinary_numbers(2.0));
        check_all(cases()[1], a, b, empty(placement.shape, dtype));
        check_all(cases()[1], b, a, empty(placement.shape, dtype));
      }
    }
  }
}

TEST_CASE("binary kernels: a number on either side") {
  const Tensor x = from_vector<float>({1, 2, 3, 4, 5});
  const Tensor out = empty({5});
  cpu().binary_scalar(BinaryKind::sub, x, 10.0, false, out);
  CHECK(out.to_vector<float>() == std::vector<float>{-9, -8, -7, -6, -5});
  cpu().binary_scalar(BinaryKind::sub, x, 10.0, true, out);
  CHECK(out.to_vector<float>() == std::vector<float>{9, 8, 7, 6, 5});
  for (const double exponent : {2.0, -1.0, 1.0, 0.0, 0.5, 3.0, -2.5}) {
    cpu().binary_scalar(BinaryKind::pow, x, exponent, false, out);
    const std::vector<float> got = out.to_vector<float>();
    for (size_t i = 0; i < 5; ++i) {
      CHECK(is_near(DType::f32, static_cast<double>(got[i]), std::pow(static_cast<Wide>(i + 1), Wide{exponent}), 2));
    }
  }
}

TEST_CASE("binary kernels: integers and bool") {
  const Tensor a = from_vector<int64_t>({7, -3, 2, 0});
  const Tensor b = from_vector<int64_t>({2, 3, 10, 0});
  const Tensor out = empty({4}, DType::i64);
  cpu().binary(BinaryKind::pow, a, b, out);
  CHECK(out.to_vector<int64_t>() == std::vector<int64_t>{49, -27, 1024, 1});
  cpu().binary(BinaryKind::minimum, a, b, out);
  CHECK(out.to_vector<int64_t>() == std::vector<int64_t>{2, -3, 2, 0});
  cpu().binary_scalar(BinaryKind::mul, a, -3.0, false, out);
  CHECK(out.to_vector<int64_t>() == std::vector<int64_t>{-21, 9, -6, 0});
  const Tensor flags = from_vector<bool>({true, false, true, false});
  const Tensor others = from_vector<bool>({true, true, false, false});
  const Tensor both = empty({4}, DType::boolean);
  cpu().binary(BinaryKind::mul, flags, others, both);
  CHECK(both.to_vector<bool>() == std::vector<bool>{true, false, false, false});
  cpu().binary(BinaryKind::add, flags, others, both);
  CHECK(both.to_vector<bool>() == std::vector<bool>{true, true, true, false});
  CHECK_THROWS_AS(cpu().binary(BinaryKind::div, a, b, out), Error);
}

TEST_CASE("compare kernels: all kinds, NaN compares unequal") {
  const std::vector<double> numbers = {0, -0.0, 1, 2, -1, std::nan(""), HUGE_VAL, -HUGE_VAL};
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16, DType::f16}) {
    const Tensor a = place({{8, 8}, {1, 0}}, dtype, numbers);
    const Tensor b = place({{8, 8}, {0, 1}}, dtype, numbers);
    const Tensor out = empty({8, 8}, DType::boolean);
    const auto check_all = [&](CompareKind kind, auto expected) {
      cpu().compare(kind, a, b, out);
      const std::vector<bool> got = out.to_vector<bool>();
      for (size_t i = 0; i < 64; ++i) {
        CHECK(got[i] == expected(numbers[i / 8], numbers[i % 8]));
      }
      const Tensor column = empty({8}, DType::boolean);
      cpu().compare_scalar(kind, a.as_view({8}, {1}, 0), 1.0, column);
      for (size_t i = 0; i < 8; ++i) {
        CHECK(column.to_vector<bool>()[i] == expected(numbers[i], 1.0));
      }
    };
    check_all(CompareKind::eq, [](double x, double y) { return x == y; });
    check_all(CompareKind::ne, [](double x, double y) { return x != y; });
    check_all(CompareKind::lt, [](double x, double y) { return x < y; });
    check_all(CompareKind::le, [](double x, double y) { return x <= y; });
    check_all(CompareKind::gt, [](double x, double y) { return x > y; });
    check_all(CompareKind::ge, [](double x, double y) { return x >= y; });
  }
  const Tensor whole = from_vector<int64_t>({(int64_t{1} << 53) + 1, 5});  // not a double
  const Tensor less = from_vector<int64_t>({int64_t{1} << 53, 5});
  const Tensor same = empty({2}, DType::boolean);
  cpu().compare(CompareKind::eq, whole, less, same);
  CHECK(same.to_vector<bool>() == std::vector<bool>{false, true});
}

TEST_CASE("where kernel: every layout and element size") {
  for (const Placement& placement : placements()) {
    for (const DType dtype : {DType::f64, DType::f32, DType::bf16, DType::i64, DType::boolean}) {
      const Placement dense{placement.shape, contiguous_strides(placement.shape)};
      const Placement single{placement.shape, Shape::filled(placement.shape.rank(), 0)};
      const Tensor condition = place(placement, DType::boolean, {1, 0, 0, 1, 1, 0, 1});
      const std::vector<bool> chosen = condition.to_vector<bool>();
      for (const auto& [first, second] : {std::pair{dense, placement}, {placement, single}, {single, dense}}) {
        const Tensor a = place(first, dtype, {1, 2, 3, 4, 5});
        const Tensor b = place(second, dtype, {0, -1, -2});
        const Tensor out = empty(placement.shape, dtype);
        cpu().where(condition, a, b, out);
        const std::vector<double> x = a.to_vector<double>();
        const std::vector<double> y = b.to_vector<double>();
        const std::vector<double> got = out.to_vector<double>();
        bool same = true;
        for (size_t i = 0; i < got.size(); ++i) {
          same = same && got[i] == (chosen[i] ? x[i] : y[i]);
        }
        CHECK(same);
      }
    }
  }
}

TEST_CASE("clamp kernel: bounds, NaN, integers") {
  const Tensor x = from_vector<float>({-2, 0.5F, 3, std::nanf(""), HUGE_VALF, -HUGE_VALF});
  const Tensor out = empty({6});
  cpu().clamp(x, -1.0, 2.0, out);
  const std::vector<float> got = out.to_vector<float>();
  CHECK(std::vector<float>(got.begin(), got.begin() + 3) == std::vector<float>{-1, 0.5F, 2});
  CHECK(std::isnan(got[3]));
  CHECK(got[4] == 2.0F);
  CHECK(got[5] == -1.0F);
  const Tensor counts = from_vector<int64_t>({-5, 0, 7});
  const Tensor limited = empty({3}, DType::i64);
  cpu().clamp(counts, -HUGE_VAL, 3.0, limited);
  CHECK(limited.to_vector<int64_t>() == std::vector<int64_t>{-5, 0, 3});
}

TEST_CASE("add_scaled kernel: in place, every layout of the addend") {
  for (const Placement& placement : placements()) {
    for (const DType dtype : {DType::f32, DType::f64, DType::bf16, DType::i64}) {
      const Tensor x = place(placement, dtype, {1, 2, 3, 4, 5, 6, 7});
      const Tensor out = place({placement.shape, contiguous_strides(placement.shape)}, dtype, {10, 20, 30});
      const std::vector<double> old = out.to_vector<double>();
      cpu().add_scaled(x, 2.0, out);
      const std::vector<double> added = x.to_vector<double>();
      const std::vector<double> got = out.to_vector<double>();
      bool same = true;
      for (size_t i = 0; i < got.size(); ++i) {
        same = same && got[i] == old[i] + 2.0 * added[i];
      }
      CHECK(same);
    }
  }
}
