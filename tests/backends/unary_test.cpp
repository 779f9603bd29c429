// Every elementwise function of one tensor against the standard library, element by element.
#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <functional>

#include "backends/elementwise_functions.h"
#include "tests/backends/kernel_inputs.h"

using namespace deltatape;
using namespace deltatape::test;

namespace {

using Wide = long double;

Wide wide_sigmoid(Wide x) { return x < 0 ? std::exp(x) / (1 + std::exp(x)) : 1 / (1 + std::exp(-x)); }
Wide wide_softplus(Wide x) { return std::isnan(x) ? x : std::max(x, Wide{0}) + std::log1p(std::exp(-std::fabs(x))); }

struct Case {
  UnaryKind kind;
  std::function<Wide(Wide)> expected;
  double ulps_f32;
  double ulps_f64;
};

std::vector<Case> cases() {
  const auto inf = std::numeric_limits<Wide>::infinity();
  return {
      {UnaryKind::neg, [](Wide x) { return -x; }, 0, 0},
      {UnaryKind::abs, [](Wide x) { return std::fabs(x); }, 0, 0},
      {UnaryKind::sign, [](Wide x) { return x > 0   ? 1
                                            : x < 0 ? -1
                                                    : x; }, 0, 0},
      {UnaryKind::square, [](Wide x) { return x * x; }, 1, 1},
      {UnaryKind::sqrt, [](Wide x) { return std::sqrt(x); }, 1, 1},
      {UnaryKind::rsqrt, [](Wide x) { return 1 / std::sqrt(x); }, 2, 2},
      {UnaryKind::reciprocal, [](Wide x) { return 1 / x; }, 1, 1},
      {UnaryKind::exp, [](Wide x) { return std::exp(x); }, 4, 4},
      {UnaryKind::exp2, [](Wide x) { return std::exp2(x); }, 4, 4},
      {UnaryKind::expm1, [](Wide x) { return std::expm1(x); }, 4, 4},
      {UnaryKind::log, [](Wide x) { return std::log(x); }, 2, 2},
      {UnaryKind::log2, [](Wide x) { return std::log2(x); }, 2, 2},
      {UnaryKind::log1p, [](Wide x) { return std::log1p(x); }, 2, 2},
      {UnaryKind::sin, [](Wide x) { return std::sin(x); }, 3, 3},
      {UnaryKind::cos, [](Wide x) { return std::cos(x); }, 3, 3},
      {UnaryKind::tanh, [](Wide x) { return std::tanh(x); }, 3, 3},
      {UnaryKind::erf, [](Wide x) { return std::erf(x); }, 4, 2},
      {UnaryKind::sigmoid, wide_sigmoid, 4, 4},
      {UnaryKind::log_sigmoid, [](Wide x) { return -wide_softplus(-x); }, 4, 4},
      {UnaryKind::softplus, wide_softplus, 4, 4},
      {UnaryKind::silu, [](Wide x) { return x * wide_sigmoid(x); }, 5, 5},
      // The lower tail multiplies errors by the square of its argument, and f32's erfc is good to 5 digits there.
      {UnaryKind::gelu, [=](Wide x) { return x == inf ? x : x * std::erfc(-x * std::sqrt(Wide{0.5})) / 2; }, 150, 200},
      {UnaryKind::relu, [](Wide x) { return x <= 0 ? 0 : x; }, 0, 0},
      {UnaryKind::floor, [](Wide x) { return std::floor(x); }, 0, 0},
      {UnaryKind::ceil, [](Wide x) { return std::ceil(x); }, 0, 0},
      {UnaryKind::round, [](Wide x) { return std::nearbyint(x); }, 0, 0},
      {UnaryKind::logical_not, [](Wide x) { return x == 0 ? 1 : 0; }, 0, 0},
  };
}

void check_unary(const Case& which, const Placement& placement, DType dtype, const std::vector<double>& numbers) {
  const Tensor x = place(placement, dtype, numbers);
  const Tensor out = empty(placement.shape, dtype);
  cpu().unary(which.kind, x, out);
  const std::vector<double> in = x.to_vector<double>();
  const std::vector<double> got = out.to_vector<double>();
  const double ulps = dtype == DType::f64 ? which.ulps_f64 : dtype == DType::f32 ? which.ulps_f32 : 1.0;
  bool signs_kept = true;
  for (size_t i = 0; i < in.size(); ++i) {
    // What bf16 and f16 hold of a result in f32 range: the f32 error is far below their spacing.
    const Wide want = which.expected(static_cast<Wide>(in[i]));
    // silu multiplies a sigmoid that may be subnormal.
    const double subnormals = which.kind == UnaryKind::silu ? std::fabs(in[i]) : 0.0;
    if (!is_near(dtype, got[i], want, ulps, std::isfinite(subnormals) ? subnormals : 0.0)) {
      FAIL_CHECK("function ", static_cast<int>(which.kind), " of ", in[i], " as ", to_string(dtype), " gives ", got[i],
                 ", expected ", static_cast<double>(want));
    }
    if (in[i] == 0.0 && want == 0 && which.kind != UnaryKind::relu) {
      signs_kept = signs_kept && std::signbit(got[i]) == std::signbit(want);
    }
  }
  CHECK_MESSAGE(signs_kept, "function ", static_cast<int>(which.kind), " loses the sign of zero");
}

}  // namespace

TEST_CASE("unary kernels: special and ordinary numbers in every floating dtype") {
  const std::vector<double> numbers = telling_numbers();
  const auto count = static_cast<int64_t>(numbers.size());
  CHECK(cases().size() == elementwise::kUnaryKinds);
  for (const Case& which : cases()) {
    for (const DType dtype : kFloats) {
      check_unary(which, {{count}, {1}}, dtype, numbers);
    }
  }
}

TEST_CASE("unary kernels: every layout") {
  std::vector<double> numbers;
  for (int i = 0; i < 997; ++i) {
    numbers.push_back(0.01 * (i % 400) + 0.1);
  }
  for (const Placement& placement : placements()) {
    for (const Case& which : {cases()[0], cases()[7]}) {
      for (const DType dtype : kFloats) {
        check_unary(which, placement, dtype, numbers);
      }
    }
  }
}

TEST_CASE("unary kernels: a result does not depend on where its element stands") {
  const Backend& backend = cpu();
  for (const DType dtype : {DType::f32, DType::f64}) {
    const Tensor x = place({{203}, {1}}, dtype, telling_numbers());
    const Tensor whole = empty({203}, dtype);
    for (const auto kind : {UnaryKind::exp, UnaryKind::log, UnaryKind::sigmoid, UnaryKind::gelu, UnaryKind::sin}) {
      backend.unary(kind, x, whole);
      const std::vector<double> expected = whole.to_vector<double>();
      for (int64_t i = 0; i < 203; ++i) {
        const Tensor one = empty({1}, dtype);
        backend.unary(kind, x.as_view({1}, {1}, i), one);
        const double want = expected[static_cast<size_t>(i)];
        const bool same = std::isnan(want) ? std::isnan(one.item()) : one.item() == want;
        CHECK(same);
      }
    }
  }
}

TEST_CASE("unary kernels: integers and bool") {
  const Backend& backend = cpu();
  const std::vector<double> numbers = {0, 1, -1, 5, -7, 1000, -46340};
  for (const DType dtype : {DType::i64, DType::i32}) {
    for (const Placement& placement : placements()) {
      const Tensor x = place(placement, dtype, numbers);
      const std::vector<int64_t> in = x.to_vector<int64_t>();
      const Tensor out = empty(placement.shape, dtype);
      const auto check_all = [&](UnaryKind kind, auto expected) {
        backend.unary(kind, x, out);
        const std::vector<int64_t> got = out.to_vector<int64_t>();
        bool same = true;
        for (size_t i = 0; i < in.size(); ++i) {
          same = same && got[i] == expected(in[i]);
        }
        CHECK(same);
      };
      check_all(UnaryKind::neg, [](int64_t n) { return -n; });
      check_all(UnaryKind::abs, [](int64_t n) { return n < 0 ? -n : n; });
      check_all(UnaryKind::sign, [](int64_t n) { return int64_t{n > 0} - int64_t{n < 0}; });
      check_all(UnaryKind::square, [](int64_t n) { return n * n; });
    }
  }
  const Tensor flags = from_vector<bool>({true, false, true});
  const Tensor opposite = empty({3}, DType::boolean);
  backend.unary(UnaryKind::logical_not, flags, opposite);
  CHECK(opposite.to_vector<bool>() == std::vector<bool>{false, true, false});
}
