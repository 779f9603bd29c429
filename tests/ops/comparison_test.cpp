#include "ops/comparison.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "ops/creation.h"
#include "tests/support/errors.h"

using namespace deltatape;

namespace {
using Bools = std::vector<bool>;
constexpr double kInf = std::numeric_limits<double>::infinity();

Bools values(const Tensor& x) { return x.to_vector<bool>(); }
}  // namespace

TEST_CASE("comparisons: bool, broadcast, without history") {
  Tensor a = from_vector<float>({1, 2, 3});
  a.set_requires_grad();
  const Tensor b = from_vector<double>({2}, {1});
  const Tensor y = lt(a, b);
  CHECK(y.dtype() == DType::boolean);
  CHECK_FALSE(y.requires_grad());
  CHECK(values(y) == Bools{true, false, false});
  CHECK(values(le(a, b)) == Bools{true, true, false});
  CHECK(values(gt(a, b)) == Bools{false, false, true});
  CHECK(values(ge(a, b)) == Bools{false, true, true});
  CHECK(values(eq(a, b)) == Bools{false, true, false});
  CHECK(values(ne(a, b)) == Bools{true, false, true});
  CHECK(values(ge(a, 2.0)) == Bools{false, true, true});
}

TEST_CASE("comparisons: NaN differs from everything") {
  const Tensor x = from_vector<double>({NAN, 1});
  CHECK(values(eq(x, x)) == Bools{false, true});
  CHECK(values(ne(x, x)) == Bools{true, false});
  CHECK(values(lt(x, 2.0)) == Bools{false, true});
  CHECK(values(ge(x, 0.0)) == Bools{false, true});
}

TEST_CASE("comparisons: numbers that an integer tensor cannot hold") {
  const Tensor x = from_vector<int32_t>({1, 2, 2147483647});
  CHECK(values(lt(x, 1.5)) == Bools{true, false, false});
  CHECK(values(lt(x, 1e12)) == Bools{true, true, true});
  CHECK(values(gt(x, -kInf)) == Bools{true, true, true});
  CHECK(values(eq(from_vector<bool>({true, false}), 2.0)) == Bools{false, false});
}

TEST_CASE("comparisons: errors name function and argument") {
  const Tensor x = zeros({2});
  CHECK_ERROR(lt(x, zeros({3})), "lt: b has shape [3], expected a shape that broadcasts with [2]");
  CHECK_ERROR(eq(Tensor(), 1.0), "eq: a is undefined, expected a tensor");
}

TEST_CASE("logical functions: truth tables, broadcast") {
  const Tensor a = from_vector<bool>({false, true}, {2, 1});
  const Tensor b = from_vector<bool>({false, true});
  CHECK(values(logical_and(a, b)) == Bools{false, false, false, true});
  CHECK(values(logical_or(a, b)) == Bools{false, true, true, true});
  CHECK(values(logical_not(b)) == Bools{true, false});
  CHECK_ERROR(logical_and(a, zeros({2})), "logical_and: b has dtype f32, expected bool");
  CHECK_ERROR(logical_not(zeros({2})), "logical_not: x has dtype f32, expected bool");
}

TEST_CASE("isnan, isfinite") {
  for (const DType dtype : {DType::f32, DType::f64}) {
    const Tensor x = dtype == DType::f32
                         ? from_vector<float>({0, INFINITY, -INFINITY, NAN, std::numeric_limits<float>::max()})
                         : from_vector<double>({0, kInf, -kInf, NAN, std::numeric_limits<double>::max()});
    CHECK(values(isnan(x)) == Bools{false, false, false, true, false});
    CHECK(values(isfinite(x)) == Bools{true, false, false, false, true});
  }
  CHECK(values(isfinite(from_vector<int64_t>({1, 2}))) == Bools{true, true});
}

TEST_CASE("any, all: of nothing, of some") {
  CHECK(any(from_vector<bool>({false, true})));
  CHECK_FALSE(any(from_vector<bool>({false, false})));
  CHECK(all(from_vector<bool>({true, true})));
  CHECK_FALSE(all(from_vector<bool>({true, false})));
  const Tensor none = zeros({0}, {DType::boolean, Device::cpu()});
  CHECK_FALSE(any(none));
  CHECK(all(none));
  CHECK(any(ones({300}, {DType::boolean, Device::cpu()})));  // more than a byte counts
  CHECK_ERROR(any(zeros({2})), "any: x has dtype f32, expected bool");
}
