// A case of the KDA operator: inputs, options, upstream gradients.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "harness/case.h"
#include "ops/kda/options.h"

namespace deltatape::tools {

struct KdaCase {
  uint64_t seed = 0;
  std::string description;  // shape and options in a line
  kda::Inputs inputs;
  kda::Options options;
  Tensor d_o;            // upstream gradient of o
  Tensor d_final_state;  // upstream gradient of the final state; undefined without one
};

/// A case that was drawn from harness::kda_space(); `description` is what brings it back.
KdaCase drawn_case(const harness::Case& c, const std::string& description);

/// The floating-point inputs that are there, by name: q k v g beta A_log dt_bias h0.
std::vector<std::pair<std::string, Tensor>> differentiable_inputs(const kda::Inputs& inputs);
/// `inputs` with the differentiable ones replaced, in the order of differentiable_inputs.
kda::Inputs with_inputs(const kda::Inputs& inputs, const std::vector<Tensor>& replacements);

}  // namespace deltatape::tools
