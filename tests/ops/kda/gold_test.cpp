// All implementations against golden operator cases, where these are at hand.
#include <doctest/doctest.h>

#include "ops/kda/chunk.h"
#include "ops/kda/fused.h"
#include "ops/kda/recurrent.h"
#include "tests/ops/kda/gold_case.h"

namespace deltatape {
namespace {

void check_results(const test::GoldFolder& gold, const test::NamedResults& results, DType dtype) {
  for (const auto& named : results) {
    const std::string& name = named.first;
    const Tensor& value = named.second;
    CAPTURE(name);
    const Tensor expected = gold.load(name);
    REQUIRE(expected.defined());
    double limit = 1e-9;
    if (dtype == DType::f32) {
      const bool gate = name == "dg" || name == "dA_log" || name == "ddt_bias";
      limit = name == "o" || name == "ht" ? 5e-5 : gate ? 5e-4 : 2e-4;
    }
    const double floor = dtype == DType::f64 ? 1e-12 : 1e-6;  // some gradients are exactly zero
    const double error = test::relative_error(value, expected);
    CAPTURE(error);
    CHECK((error <= limit || test::largest_difference(value, expected) <= floor));
  }
}

TEST_CASE("kda: golden operator cases in f64 and f32 [slow]") {
  const auto names = test::gold_cases("operator");
  if (names.empty()) {
    MESSAGE("no golden data beside the project, nothing compared");
  }
  for (const std::string& name : names) {
    CAPTURE(name);
    const test::GoldFolder gold(name);
    for (const DType dtype : {DType::f64, DType::f32}) {
      const test::KDACase c = test::load_gold_case(gold, dtype);
      check_results(gold, run_case(&kda::chunk, c), dtype);
      check_results(gold, run_case(&kda::recurrent, c), dtype);
      check_results(gold, run_case(&kda::fused_chunk, c), dtype);
      check_results(gold, run_case(&kda::fused_recurrent, c), dtype);
    }
  }
}

}  // namespace
}  // namespace deltatape
