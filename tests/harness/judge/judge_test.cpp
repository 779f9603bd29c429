#include "harness/judge/judge.h"

#include <doctest/doctest.h>

#include <cmath>

#include "harness/kda/kda.h"
#include "ops/ops.h"

namespace deltatape {
namespace {

using harness::Expected;
using harness::Judgement;
using harness::Verdict;

Tensor vector_of(const std::vector<double>& values, DType dtype = DType::f32) { return to(from_vector(values), dtype); }

TEST_CASE("harness: the verdict follows the composed path and the conditioning of a case") {
  const Expected easy{.name = "o", .value = vector_of({1.0, -2.0, 0.5}, DType::f64), .composed = 1e-7};
  const auto verdict = [](const Expected& expected, const std::vector<double>& x) {
    return harness::judge(expected, vector_of(x), DType::f32, {}).verdict;
  };
  CHECK(verdict(easy, {1.0, -2.0, 0.5}) == Verdict::fine);
  CHECK(verdict(easy, {1.0 + 1e-6, -2.0, 0.5}) == Verdict::fine);
  CHECK(verdict(easy, {1.0 + 1e-5, -2.0, 0.5}) == Verdict::less_accurate);
  CHECK(verdict(easy, {1.0 + 1e-3, -2.0, 0.5}) == Verdict::wrong);
  Expected hard = easy;
  hard.conditioned = 1e-4;
  CHECK(verdict(hard, {1.0 + 1e-3, -2.0, 0.5}) == Verdict::fine);
  CHECK(verdict(hard, {1.0 + 1e-2, -2.0, 0.5}) == Verdict::less_accurate);
  CHECK(verdict(hard, {1.1, -2.0, 0.5}) == Verdict::wrong);  // 5 % of the largest element is never rounding alone
}

TEST_CASE("harness: what is missing, of another shape or not finite is wrong") {
  const Expected expected{.name = "dk", .value = vector_of({1.0, 2.0}, DType::f64), .composed = 0.1};
  const Judgement missing = harness::judge(expected, Tensor(), DType::f32, {});
  CHECK(missing.verdict == Verdict::wrong);
  CHECK(missing.problem == "missing");
  const Judgement shape = harness::judge(expected, vector_of({1.0, 2.0, 3.0}), DType::f32, {});
  CHECK(shape.verdict == Verdict::wrong);
  CHECK(shape.problem == "has shape [3], expected [2]");
  const Judgement nan = harness::judge(expected, vector_of({1.0, std::nan("")}), DType::f32, {});
  CHECK(nan.verdict == Verdict::wrong);
  CHECK(nan.problem == "NaN");
  const Judgement infinite = harness::judge(expected, vector_of({1.0, HUGE_VAL}), DType::f32, {});
  CHECK(infinite.verdict == Verdict::wrong);
  CHECK(infinite.problem == "infinite");
}

TEST_CASE("harness: noise of sums that cancel, and numbers that a dtype cannot tell from 0") {
  Expected zero{.name = "dg", .value = vector_of({0.0, 0.0}, DType::f64), .scale = 10.0};
  const auto verdict = [&](double x, DType dtype) {
    return harness::judge(zero, vector_of({x, 0.0}, dtype), dtype, {}).verdict;
  };
  CHECK(verdict(5e-6, DType::f32) == Verdict::fine);
  CHECK(verdict(2e-5, DType::f32) == Verdict::wrong);
  CHECK(verdict(1e-6, DType::f64) == Verdict::wrong);
  CHECK(verdict(4e-3, DType::bf16) == Verdict::fine);
  CHECK(verdict(1e-2, DType::bf16) == Verdict::wrong);
  zero.scale = 0.0;
  CHECK(verdict(1e-30, DType::f32) == Verdict::wrong);
  CHECK(verdict(1e-40, DType::f32) == Verdict::fine);
  CHECK(verdict(0x1p-24, DType::f16) == Verdict::fine);
  CHECK(verdict(0x1p-13, DType::f16) == Verdict::wrong);
}

TEST_CASE("harness: operands in TF32 are less accurate, no wrong formula") {
  const Expected expected{.name = "o", .value = vector_of({1.0, -2.0}, DType::f64), .conditioned = 1e-7};
  const auto verdict = [&](double error, DType dtype) {
    return harness::judge(expected, vector_of({1.0, -2.0 + 2.0 * error}, dtype), dtype, {}).verdict;
  };
  CHECK(verdict(3e-3, DType::f32) == Verdict::less_accurate);
  CHECK(verdict(4e-3, DType::f32) == Verdict::wrong);
  CHECK(verdict(1e-4, DType::f64) == Verdict::wrong);
}

TEST_CASE("harness: the conditioning of a case is measured, not assumed") {
  const harness::Space space = harness::kda_space();
  const harness::Reference reference = harness::kda_reference();
  const auto conditioned = [&](const std::string& text, const char* tensor) {
    const harness::Expectation expectation(reference, space.make(space.parse(text)));
    REQUIRE(expectation.find(tensor) != nullptr);
    return expectation.find(tensor)->conditioned;
  };
  const std::string size = "seed=3,T=64,K=8,V=4,";
  const double easy = conditioned(size + "dtype=f32", "o");
  CHECK(easy > 0x1p-26);
  CHECK(easy < 1e-6);
  CHECK(conditioned(size + "dtype=bf16", "o") > 1e3 * easy);
  CHECK(conditioned(size + "dtype=f64", "o") < 1e-7 * easy);
  // Reflections that never fade: what one step rounds, all later ones carry on.
  CHECK(conditioned(size + "dtype=f32,keys=near,beta=two,decay=none", "o") > 3.0 * easy);
}

}  // namespace
}  // namespace deltatape
