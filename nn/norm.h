// Normalisations over the last dimension.
#pragma once

#include <string>
#include <string_view>

#include "nn/module.h"
#include "ops/norm.h"

namespace deltatape::nn {

/// x / sqrt(mean(x^2) + eps) * weight.
class RMSNorm : public Module {
 public:
  /// weight [dim] of ones, f32.
  explicit RMSNorm(int64_t dim, double eps = 1e-6);

  /// x [.., dim].
  [[nodiscard]] Tensor forward(const Tensor& x) const;

  Tensor weight;

 private:
  double eps_;
};

/// The function that a gate goes through.
using deltatape::GateActivation;
/// `sigmoid`, `swish` or `silu`. Throws Error naming `function` and the allowed names.
GateActivation parse_gate_activation(std::string_view function, std::string_view name);

/// rms_norm(x; weight) * activation(gate): FLA's FusedRMSNormGated.
class GatedRMSNorm : public Module {
 public:
  /// weight [dim] of ones, f32. `activation` as in parse_gate_activation.
  explicit GatedRMSNorm(int64_t dim, double eps = 1e-6, std::string_view activation = "swish");

  /// x and gate [.., dim], of one shape.
  [[nodiscard]] Tensor forward(const Tensor& x, const Tensor& gate) const;

  Tensor weight;

 private:
  double eps_;
  GateActivation activation_;
};

}  // namespace deltatape::nn
