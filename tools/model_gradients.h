// The gradient check of a whole language model: the tape against central differences, parameter by parameter.
#pragma once

#include <string>
#include <vector>

#include "nn/kda_model.h"
#include "tools/data.h"
#include "tools/table.h"

namespace deltatape::tools {

/// The derivative of the loss along one random direction (of length 1) in one parameter tensor.
struct DirectionalDerivative {
  std::string parameter;
  Shape shape;
  double analytic = 0.0;  // <gradient from the tape, direction>
  double numeric = 0.0;   // (8 (L(h) - L(-h)) - (L(2h) - L(-2h))) / 12h, of order h^4
  double relative_error = 0.0;
  bool ok = false;
};

/// Checks every parameter of a float64 copy of `model` (with its current values) on `batch`. A direction passes when
/// |analytic - numeric| <= 1e-10 + 1e-5 |numeric|, which NaN does not.
std::vector<DirectionalDerivative> check_model_gradients(const nn::KDAForCausalLM& model, const Batch& batch,
                                                         uint64_t seed);

/// A row per parameter.
Table to_table(const std::vector<DirectionalDerivative>& derivatives);
bool all_ok(const std::vector<DirectionalDerivative>& derivatives);

}  // namespace deltatape::tools
