#include "harness/kda/kda_config.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "harness/kda/kda.h"

namespace deltatape::harness {

std::string kda_config(const std::string& name, const std::string& text, const Case& c) {
  const kda::Inputs in = kda_inputs(c.inputs);
  const kda::Options options = kda_options(c.settings);
  const bool varlen = in.cu_seqlens.defined();
  const bool bounded = options.gate == kda::Gate::lower_bound;
  const auto K = static_cast<double>(in.q.size(3));
  nlohmann::ordered_json config = {
      {"kind", "operator"},
      {"name", name},
      {"case", text},
      {"dtype", to_string(c.dtype)},
      {"seed", c.settings.integer("seed")},
      {"B", in.q.size(0)},
      {"T", in.q.size(1)},
      {"H", in.q.size(2)},
      {"HV", in.v.size(2)},
      {"K", in.q.size(3)},
      {"V", in.v.size(3)},
      {"N", varlen ? in.cu_seqlens.numel() - 1 : in.q.size(0)},
      {"scale", options.scale.value_or(1.0 / std::sqrt(K))},
      {"scale_is_default", !options.scale.has_value()},
      {"use_qk_l2norm", options.use_qk_l2norm},
      {"use_gate", options.gate != kda::Gate::none},
      {"use_beta_sigmoid", options.use_beta_sigmoid},
      {"allow_neg_eigval", options.allow_neg_eigval},
      {"lower_bound", bounded ? nlohmann::ordered_json(options.lower_bound) : nlohmann::ordered_json()},
      {"safe_gate", options.safe_gate},
      {"has_h0", in.initial_state.defined()},
      {"has_A_log", in.A_log.defined()},
      {"has_dt_bias", in.dt_bias.defined()},
      {"output_final_state", options.output_final_state},
      {"state_v_first", options.state_v_first},
      {"chunk_size", options.chunk_size},
      {"varlen", varlen},
  };
  return config.dump(2) + "\n";
}

}  // namespace deltatape::harness
