// All implementations against golden operator cases, where these are at hand.
#include <doctest/doctest.h>

#include "ops/kda/chunk.h"
#include "ops/kda/fused.h"
#include "ops/kda/recurrent.h"
#include "tests/ops/kda/kda_cases.h"
#include "tests/support/gold_folder.h"

namespace deltatape {
namespace {

test::KDACase load_case(const test::GoldFolder& gold, DType dtype) {
  const auto& config = gold.config();
  test::KDACase c;
  c.inputs.q = gold.load("q", dtype);
  c.inputs.k = gold.load("k", dtype);
  c.inputs.v = gold.load("v", dtype);
  c.inputs.g = gold.load("g", dtype);
  c.inputs.beta = gold.load("beta", dtype);
  c.inputs.A_log = gold.load("A_log", dtype);
  c.inputs.dt_bias = gold.load("dt_bias", dtype);
  c.inputs.initial_state = gold.load("h0", dtype);
  c.inputs.cu_seqlens = gold.load("cu_seqlens");
  c.options.scale = config["scale"].get<double>();
  if (config["use_gate"].get<bool>()) {
    const bool bounded = !config["lower_bound"].is_null();
    c.options.gate = bounded ? kda::Gate::lower_bound : kda::Gate::standard;
    c.options.lower_bound = bounded ? config["lower_bound"].get<double>() : -5.0;
  }
  c.options.use_qk_l2norm = config["use_qk_l2norm"].get<bool>();
  c.options.use_beta_sigmoid = config["use_beta_sigmoid"].get<bool>();
  c.options.allow_neg_eigval = config["allow_neg_eigval"].get<bool>();
  c.options.output_final_state = config["output_final_state"].get<bool>();
  c.options.safe_gate = config["safe_gate"].get<bool>();
  c.options.state_v_first = config["state_v_first"].get<bool>();
  c.options.chunk_size = config["chunk_size"].get<int64_t>();
  c.d_o = gold.load("do", dtype);
  c.d_ht = gold.load("dht", dtype);
  return c;
}

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
      const test::KDACase c = load_case(gold, dtype);
      check_results(gold, run_case(&kda::chunk, c), dtype);
      check_results(gold, run_case(&kda::recurrent, c), dtype);
      check_results(gold, run_case(&kda::fused_chunk, c), dtype);
      check_results(gold, run_case(&kda::fused_recurrent, c), dtype);
    }
  }
}

}  // namespace
}  // namespace deltatape
