// Random cases of the KDA operator, over the whole space of its options.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/generator.h"
#include "ops/kda/options.h"

namespace deltatape::tools {

/// What the user has fixed; everything else is drawn.
struct CaseLimits {
  std::optional<std::array<int64_t, 6>> shape = std::nullopt;  // B, T, H, HV, K, V
  std::optional<kda::Gate> gate = std::nullopt;
  bool varlen = false;  // every case has packed sequences
};

/// A drawn case is f64 throughout.
struct KdaCase {
  uint64_t seed = 0;
  std::string description;  // shape and options in a line
  kda::Inputs inputs;
  kda::Options options;
  Tensor d_o;            // upstream gradient of o
  Tensor d_final_state;  // upstream gradient of the final state; undefined without one
};

/// The case that this seed gives. Throws Error naming the option when the limits contradict each other.
KdaCase draw_case(uint64_t seed, const CaseLimits& limits);

/// The floating-point inputs that are there, by name: q k v g beta A_log dt_bias h0.
std::vector<std::pair<std::string, Tensor>> differentiable_inputs(const kda::Inputs& inputs);
/// `inputs` with the differentiable ones replaced, in the order of differentiable_inputs.
kda::Inputs with_inputs(const kda::Inputs& inputs, const std::vector<Tensor>& replacements);

}  // namespace deltatape::tools
