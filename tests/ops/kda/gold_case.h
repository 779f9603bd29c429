// A golden operator case (tests/support/gold_folder.h) as a KDACase.
#pragma once

#include "tests/ops/kda/kda_cases.h"
#include "tests/support/gold_folder.h"

namespace deltatape::test {

/// Inputs, options and upstream gradients of a case, in `dtype`.
inline KDACase load_gold_case(const GoldFolder& gold, DType dtype) {
  const auto& config = gold.config();
  KDACase c;
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

}  // namespace deltatape::test
