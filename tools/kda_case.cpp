#include "tools/kda_case.h"

#include "harness/kda/kda.h"

namespace deltatape::tools {
namespace {

// `inputs` is const or not, and so are the members that `visit` gets.
template <class Inputs, class Visit>
void for_each_input(Inputs& inputs, const Visit& visit) {
  visit("q", inputs.q);
  visit("k", inputs.k);
  visit("v", inputs.v);
  visit("g", inputs.g);
  visit("beta", inputs.beta);
  visit("A_log", inputs.A_log);
  visit("dt_bias", inputs.dt_bias);
  visit("h0", inputs.initial_state);
}

}  // namespace

KdaCase drawn_case(const harness::Case& c, const std::string& description) {
  KdaCase result;
  result.seed = static_cast<uint64_t>(c.settings.integer("seed"));
  result.description = description;
  result.inputs = harness::kda_inputs(c.inputs);
  result.options = harness::kda_options(c.settings);
  result.d_o = harness::find(c.upstream, "o");
  result.d_final_state = harness::find(c.upstream, "ht");
  return result;
}

std::vector<std::pair<std::string, Tensor>> differentiable_inputs(const kda::Inputs& inputs) {
  std::vector<std::pair<std::string, Tensor>> result;
  for_each_input(inputs, [&](const char* name, const Tensor& tensor) {
    if (tensor.defined()) {
      result.emplace_back(name, tensor);
    }
  });
  return result;
}

kda::Inputs with_inputs(const kda::Inputs& inputs, const std::vector<Tensor>& replacements) {
  kda::Inputs result = inputs;
  size_t next = 0;
  for_each_input(result, [&](const char*, Tensor& tensor) {
    if (tensor.defined()) {
      tensor = replacements.at(next++);
    }
  });
  return result;
}

}  // namespace deltatape::tools
