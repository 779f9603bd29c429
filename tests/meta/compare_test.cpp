#include "tests/support/compare.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

namespace deltatape::test {
namespace {

const double kNan = std::nan("");
const double kInfinity = std::numeric_limits<double>::infinity();

Tensor row(const std::vector<double>& values) { return from_vector(values); }

bool passes(const std::vector<double>& actual, const std::vector<double>& expected, const Tolerance& tolerance) {
  return compare(row(actual), row(expected), tolerance).ok;
}

TEST_CASE("compare: equal passes, unequal fails") {
  CHECK(passes({1, 2, 3}, {1, 2, 3}, exactly()));
  CHECK_FALSE(passes({1, 2, 3.0000001}, {1, 2, 3}, exactly()));
  CHECK(passes({0.0}, {-0.0}, exactly()));
}

TEST_CASE("compare: each part of the tolerance") {
  CHECK(passes({0.5}, {0}, {0.5, 0, 0}));
  CHECK_FALSE(passes({0.51}, {0}, {0.5, 0, 0}));
  CHECK(passes({11, -11}, {10, -10}, {0, 0.1, 0}));
  CHECK_FALSE(passes({10, 0.5}, {10, 0}, {0, 0.1, 0}));
  CHECK(passes({10, 0.5}, {10, 0}, {0, 0, 0.1}));
  CHECK_FALSE(passes({10, 1.5}, {10, 0}, {0, 0, 0.1}));
}

TEST_CASE("compare: NaN and infinity never pass a tolerance") {
  const Tolerance wide{1e300, 1e300, 1e300};
  for (const double bad : {kNan, kInfinity, -kInfinity}) {
    CAPTURE(bad);
    CHECK_FALSE(passes({1, bad}, {1, 2}, wide));
    CHECK_FALSE(passes({1, 2}, {1, bad}, wide));
  }
  CHECK_FALSE(passes({kNan}, {kNan}, wide));
  CHECK_FALSE(passes({kInfinity}, {-kInfinity}, wide));
  CHECK_FALSE(passes({kInfinity}, {kNan}, wide));
  // An infinite limit is no limit either.
  CHECK_FALSE(passes({kInfinity}, {1}, {kInfinity, 0, 0}));
  CHECK_FALSE(passes({1}, {0}, {kNan, 0, 0}));
}

TEST_CASE("compare: expected infinities and allowed NaN") {
  CHECK(passes({kInfinity, -kInfinity, 1}, {kInfinity, -kInfinity, 1}, exactly()));
  // An expected infinity gives the finite elements no room.
  CHECK_FALSE(passes({kInfinity, 1}, {kInfinity, 2}, {0, 0.1, 0.1}));
  Tolerance with_nan;
  with_nan.nan_allowed = true;
  CHECK(passes({kNan, 1}, {kNan, 1}, with_nan));
  CHECK_FALSE(passes({1, 1}, {kNan, 1}, with_nan));
  CHECK_FALSE(passes({kNan, kNan}, {kNan, 1}, with_nan));
}

TEST_CASE("compare: shape, dtype and absence") {
  const Tensor x = from_vector(std::vector<double>{1, 2, 3, 4}, {2, 2});
  CHECK_FALSE(compare(x, row({1, 2, 3, 4}), exactly()).ok);
  CHECK(compare(x, row({1, 2, 3, 4}), exactly()).text == "f64[2, 2], expected f64[4]");
  CHECK_FALSE(compare(row({1}), from_vector(std::vector<float>{1}), exactly()).ok);
  CHECK_FALSE(compare(row({1}), Array({1}, {1}), DType::f32, exactly()).ok);
  CHECK_FALSE(compare(Tensor(), x, exactly()).ok);
  CHECK_FALSE(compare(x, Tensor(), exactly()).ok);
  CHECK(compare(Tensor(), Tensor(), exactly()).ok);
}

TEST_CASE("compare: empty tensors are equal when their shapes are") {
  CHECK(compare(empty({0, 3}, DType::f64), empty({0, 3}, DType::f64), exactly()).ok);
  CHECK_FALSE(compare(empty({0, 3}, DType::f64), empty({3, 0}, DType::f64), exactly()).ok);
  CHECK_FALSE(compare(empty({0}, DType::f64), row({1}), exactly()).ok);
}

TEST_CASE("compare: integers and bool are exact under any roundoff") {
  const Tensor a = from_vector(std::vector<int64_t>{1, -7});
  const Tensor b = from_vector(std::vector<int64_t>{1, -6});
  CHECK(compare(a, a, rounding(DType::i64, 100)).ok);
  CHECK_FALSE(compare(a, b, rounding(DType::i64, 100)).ok);
  const Tensor yes = from_vector(std::vector<bool>{true});
  CHECK_FALSE(compare(yes, from_vector(std::vector<bool>{false}), rounding(DType::boolean, 100)).ok);
}

TEST_CASE("compare: strided tensors by their elements") {
  const Tensor x = from_vector(std::vector<double>{1, 2, 3, 4, 5, 6}, {2, 3});
  CHECK(
      compare(x.as_view({3, 2}, {1, 3}, 0), from_vector(std::vector<double>{1, 4, 2, 5, 3, 6}, {3, 2}), exactly()).ok);
}

TEST_CASE("compare: the report names the worst element, its neighbours, the limit and its share") {
  const Array expected({2, 2}, {1, 2, 3, 4});
  const Comparison c =
      compare(to_tensor(Array({2, 2}, {1, 2.25, 3.5, 4}), DType::f64), expected, DType::f64, {0.125, 0, 0});
  CHECK_FALSE(c.ok);
  CHECK(c.worst == 2);
  CHECK(c.share == 4.0);
  CHECK(c.text ==
        "2 of 4 elements differ; worst at [1, 0]: 3.5, expected 3, limit 0.125 (4 used)\n"
        "  actual around it:   1 2.25 [3.5] 4\n  expected around it: 1 2 [3] 4");
  CHECK(compare(row({kNan, 100}), row({1, 2}), {1, 0, 0}).worst == 0);
}

TEST_CASE("compare: one unit of roundoff is half the distance to the next number") {
  const auto rounded = [](double value, DType dtype) { return to_tensor(Array(value), dtype).item(); };
  for (const DType dtype : {DType::f64, DType::f32, DType::bf16, DType::f16}) {
    CAPTURE(dtype);
    const double unit = rounding(dtype, 1).relative;
    CHECK(rounded(1.0 + 2 * unit, dtype) == 1.0 + 2 * unit);
    CHECK(rounded(1.0 + unit, dtype) == 1.0);
  }
}

TEST_CASE("check_close: a difference fails the test" * doctest::should_fail()) {
  check_close({"x", 7}, row({1, 2}), row({1, 3}), exactly());
}

TEST_CASE("check_close: an equal tensor passes") { check_close("x", row({1, 2}), row({1, 2}), exactly()); }

}  // namespace
}  // namespace deltatape::test
