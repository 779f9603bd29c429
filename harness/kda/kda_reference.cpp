// Kimi Delta Attention as the harness' reference and as its candidates.
#include "autograd/grad_mode.h"
#include "harness/kda/kda.h"
#include "harness/kda/kda_intermediates.h"
#include "ops/kda/inputs.h"

namespace deltatape::harness {
namespace {

Function function_of(kda::Implementation implementation) {
  return [implementation](const Settings& settings, const NamedTensors& inputs) {
    const kda::Output output = kda::run(implementation, kda_inputs(inputs), kda_options(settings));
    NamedTensors outputs = {{"o", output.o}};
    if (output.final_state.defined()) {
      outputs.emplace_back("ht", output.final_state);
    }
    return outputs;
  };
}

std::vector<std::string> dimensions_of(const std::string& tensor) {
  static const std::vector<std::pair<std::vector<std::string>, std::vector<std::string>>> table = {
      {{"o", "do", "q", "k", "v", "g", "dq", "dk", "dv", "dg", "g_cumsum", "w", "u", "qg", "kg", "v_new"},
       {"batch", "time", "head", "channel"}},
      {{"beta", "dbeta"}, {"batch", "time", "head"}},
      {{"Aqk", "Akk", "dAqk", "dAkk"}, {"batch", "time", "head", "row of the chunk"}},
      {{"h", "dh"}, {"batch", "chunk", "head", "channel of K", "channel of V"}},
      {{"h0", "ht", "dh0", "dht"}, {"sequence", "head", "channel of K", "channel of V"}},
      {{"A_log", "dA_log"}, {"head"}},
      {{"dt_bias", "ddt_bias"}, {"head and channel"}},
  };
  for (const auto& [names, dimensions] : table) {
    for (const std::string& name : names) {
      if (name == tensor) {
        return dimensions;
      }
    }
  }
  return {};
}

std::vector<TokenPlace> tokens_of(const Case& c) {
  const kda::Options options = kda_options(c.settings);
  const kda::Problem problem = kda::check_inputs("harness", kda_inputs(c.inputs), options);
  std::vector<TokenPlace> places(static_cast<size_t>(problem.B * problem.T));
  int64_t number = 0;
  for (const kda::Sequence& sequence : problem.sequences) {
    for (int64_t t = sequence.begin; t < sequence.end; ++t) {
      const int64_t time = t - sequence.begin;
      places[static_cast<size_t>(sequence.row * problem.T + t)] = {number, time, time % options.chunk_size};
    }
    ++number;
  }
  return places;
}

}  // namespace

kda::Options kda_options(const Settings& s) {
  kda::Options o;
  if (s.number("scale") != 0.0) {
    o.scale = s.number("scale");
  }
  o.gate = s.word("gate") == "none"       ? kda::Gate::none
           : s.word("gate") == "standard" ? kda::Gate::standard
                                          : kda::Gate::lower_bound;
  o.lower_bound = s.number("lower_bound");
  o.use_qk_l2norm = s.flag("l2norm");
  o.use_beta_sigmoid = s.flag("beta_sigmoid");
  o.allow_neg_eigval = s.flag("neg_eigval");
  o.safe_gate = s.flag("safe_gate");
  o.output_final_state = s.flag("ht");
  o.save_intermediates = s.flag("save");
  o.state_v_first = s.flag("v_first");
  o.chunk_size = s.integer("chunk_size");
  return o;
}

kda::Inputs kda_inputs(const NamedTensors& inputs) {
  return {.q = find(inputs, "q"),
          .k = find(inputs, "k"),
          .v = find(inputs, "v"),
          .g = find(inputs, "g"),
          .beta = find(inputs, "beta"),
          .A_log = find(inputs, "A_log"),
          .dt_bias = find(inputs, "dt_bias"),
          .initial_state = find(inputs, "h0"),
          .cu_seqlens = find(inputs, "cu_seqlens"),
          .segment_ids = find(inputs, "segment_ids")};
}

Reference kda_reference() {
  return {.name = "kda::recurrent on the tape",
          .forward = function_of(kda::Implementation::recurrent),
          .other = function_of(kda::Implementation::chunk),
          .other_name = "kda::chunk on the tape",
          .intermediates = kda_intermediates,
          .order = {"g_cumsum", "Aqk", "Akk", "w",  "u",    "qg", "kg", "h",     "v_new", "o",      "ht",
                    "dAqk",     "dh",  "dh0", "dv", "dAkk", "dq", "dk", "dbeta", "dg",    "dA_log", "ddt_bias"},
          .dimensions = dimensions_of,
          .tokens = tokens_of};
}

Candidate kda_candidate(kda::Implementation implementation) {
  return differentiable(std::string(kda::name_of(implementation)), function_of(implementation));
}

}  // namespace deltatape::harness
