#include "nn/norm.h"

#include "nn/wide.h"
#include "ops/arithmetic.h"
#include "ops/creation.h"
#include "ops/unary.h"

namespace deltatape::nn {

RMSNorm::RMSNorm(int64_t dim, double eps) : Module("RMSNorm"), weight(ones({dim})), eps_(eps) {
  check(eps > 0.0, name(), "eps is {}, expected a number above 0", eps);
  register_parameter("weight", weight);
}

Tensor RMSNorm::forward(const Tensor& x) const { return rms_norm(x, weight, eps_); }

GateActivation parse_gate_activation(std::string_view function, std::string_view name) {
  if (name == "sigmoid") {
    return GateActivation::sigmoid;
  }
  check(name == "swish" || name == "silu", function, "activation is {}, expected sigmoid, swish or silu", name);
  return GateActivation::swish;
}

GatedRMSNorm::GatedRMSNorm(int64_t dim, double eps, std::string_view activation)
    : Module("GatedRMSNorm"),
      weight(ones({dim})),
      eps_(eps),
      activation_(parse_gate_activation("GatedRMSNorm", activation)) {
  check(eps > 0.0, name(), "eps is {}, expected a number above 0", eps);
  register_parameter("weight", weight);
}

Tensor GatedRMSNorm::forward(const Tensor& x, const Tensor& gate) const {
  check(x.defined() && gate.defined() && x.shape() == gate.shape(), name(), "gate has shape {}, expected that of x, {}",
        gate.defined() ? to_string(gate.shape()) : "none", x.defined() ? to_string(x.shape()) : "none");
  if (x.dtype() == gate.dtype() && x.dtype() == weight.dtype()) {
    return gated_rms_norm(x, weight, gate, activation_, eps_);
  }
  const Tensor z = wide(gate);  // mixed dtypes
  const Tensor factor = activation_ == GateActivation::sigmoid ? sigmoid(z) : silu(z);
  return deltatape::to(mul(rms_norm(wide(x), wide(weight), eps_), factor), x.dtype());
}

}  // namespace deltatape::nn
