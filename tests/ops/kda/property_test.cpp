// All implementations against each other on random draws over the option space (random_case.h). More draws with
// DELTATAPE_PROPERTY_CASES=N, or with DELTATAPE_LONG_TESTS=1; one alone with DELTATAPE_PROPERTY_SEED=S.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <string>

#include "ops/kda/fused.h"
#include "tests/ops/kda/random_case.h"

namespace deltatape {
namespace {

uint64_t number_from(const char* variable, uint64_t otherwise) {
  const char* text = std::getenv(variable);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

/// Which seeds to draw: [first, first + count).
struct Seeds {
  uint64_t first;
  uint64_t count;
};
Seeds seeds(uint64_t usually) {
  const bool one = std::getenv("DELTATAPE_PROPERTY_SEED") != nullptr;
  const uint64_t many = std::getenv("DELTATAPE_LONG_TESTS") != nullptr ? 3000 : usually;
  return {number_from("DELTATAPE_PROPERTY_SEED", 0), one ? 1 : number_from("DELTATAPE_PROPERTY_CASES", many)};
}

bool is_gate_gradient(const std::string& name) { return name == "dg" || name == "dA_log" || name == "ddt_bias"; }

/// How far a result may be from the expected one: relative to the largest element, or at most `floor`.
struct Limits {
  double relative;
  double gates;  // relative, for gradients of the gate
  double floor;
  double state_floor;  // of dh0, which is what contracting steps leave of upstream gradients of order one
};

void compare(const test::NamedResults& actual, const test::NamedResults& expected, const Limits& limits) {
  REQUIRE(actual.size() == expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    const std::string& name = expected[i].first;
    CAPTURE(name);
    CHECK(actual[i].first == name);
    const double error = test::max_error(actual[i].second, expected[i].second);
    const double difference = test::largest_difference(actual[i].second, expected[i].second);
    CAPTURE(error);
    CAPTURE(difference);
    const double floor = name == "dh0" ? limits.state_floor : limits.floor;
    CHECK((error <= (is_gate_gradient(name) ? limits.gates : limits.relative) || difference <= floor));
  }
}

/// With K = 1 a key and the state are numbers: the norm's Jacobian 1 - y^2 and the step 1 - beta k^2 are zero up to
/// rounding, and whole gradients are nothing but that rounding, of numbers of order one.
bool is_all_cancellation(const test::KDACase& c) { return c.inputs.q.size(3) == 1; }

TEST_CASE("kda: all implementations agree on random draws in f64 [slow]") {
  const Seeds range = seeds(400);
  for (uint64_t seed = range.first; seed < range.first + range.count; ++seed) {
    const test::RandomCase r = test::random_case(seed);
    CAPTURE(r.text);
    // Besides K = 1 nothing has an absolute floor but numbers at the end of the range, which have few digits, and dh0,
    // where it is smaller than the rounding of what it is left of: the unit roundoff of one.
    const double floor = is_all_cancellation(r.c) ? 1e-13 : 1e-300;
    test::NamedResults expected;
    for (const test::Implementation& implementation : test::implementations()) {
      CAPTURE(implementation.name);
      const test::NamedResults actual = run_case(implementation.function, r.c);
      if (expected.empty()) {
        expected = actual;
      } else {
        compare(actual, expected, {1e-9, 1e-9, floor, std::max(floor, 0x1p-53)});
      }
    }
  }
}

TEST_CASE("kda: f32 against f64 on random draws [slow]") {
  // The bounds of the derivation for f32 where exponents are sums of parts: 1e-5, and 1e-4 for gates. The floor is for
  // what is left of upstream gradients and states of order one after they have been almost forgotten (dh0 after many
  // contracting steps), and for sums that cancel.
  constexpr double kFloor = 2e-6;
  const Seeds range = seeds(400);
  for (uint64_t seed = range.first; seed < range.first + range.count; ++seed) {
    const test::RandomCase r = test::random_case(seed);
    if (is_all_cancellation(r.c)) {
      continue;
    }
    CAPTURE(r.text);
    const test::KDACase narrow = in_dtype(r.c, DType::f32);
    const test::NamedResults expected = run_case(&kda::fused_recurrent, in_dtype(narrow, DType::f64));
    for (const test::Implementation& implementation : test::implementations()) {
      CAPTURE(implementation.name);
      compare(run_case(implementation.function, narrow), expected, {1e-5, 1e-4, kFloor, kFloor});
    }
  }
}

}  // namespace
}  // namespace deltatape
