#include "ops/kda/fused_gate.h"

#include "autograd/grad_mode.h"
#include "autograd/record.h"
#include "backends/backend.h"
#include "ops/arithmetic.h"
#include "ops/checks.h"
#include "ops/convert.h"
#include "ops/creation.h"
#include "ops/kda/gate.h"
#include "ops/kda/gate_parts.h"
#include "ops/reduction.h"
#include "ops/unary.h"
#include "ops/views.h"

namespace deltatape::kda {
namespace {

/// Whether one kernel can do it: everything is computed in one type.
bool one_type(const Tensor& g, const Tensor& A_log, const Tensor& dt_bias) {
  const auto fits = [&g](const Tensor& x) {
    return !x.defined() || (x.dtype() == DType::f64) == (g.dtype() == DType::f64);
  };
  return fits(A_log) && fits(dt_bias);
}

/// Which gradients somebody needs.
struct Wanted {
  bool g = true;
  bool A_log = true;
  bool dt_bias = true;
};

/// gate_backward without its checks; undefined where not wanted.
GateGradients wanted_gradients(const Wanted& wanted, Gate gate, const Tensor& dy, const Tensor& g, const Tensor& A_log,
                               const Tensor& dt_bias, double lower_bound) {
  const bool of_A_log = A_log.defined() && wanted.A_log;
  const bool of_dt_bias = dt_bias.defined() && wanted.dt_bias;
  if (!grad_enabled() && one_type(g, A_log, dt_bias)) {
    const auto like = [](const Tensor& x, bool needed) { return needed ? empty(x.shape(), x.options()) : Tensor(); };
    GateGradients gradients{like(g, wanted.g), like(A_log, of_A_log), like(dt_bias, of_dt_bias)};
    backend_of(g).kda_gate_backward(gate, lower_bound, contiguous(dy), contiguous(g), A_log, dt_bias, gradients.dg,
                                    gradients.dA_log, gradients.ddt_bias);
    return gradients;
  }
  const Tensor z = biased(computed_gate(g), computed_gate(dt_bias));
  const Tensor upstream = computed_gate(dy);
  const Tensor a = A_log.defined() ? rate(computed_gate(A_log)) : Tensor();
  Tensor dz;
  Tensor times_rate;  // [B,T,HV,K], sums up to the gradient of A_log
  if (gate == Gate::standard) {
    const Tensor scaled = mul(upstream, neg(a));
    dz = mul(scaled, sigmoid(z));
    times_rate = mul(scaled, softplus(z));
  } else {
    const Tensor az = a.defined() ? mul(z, a) : z;
    const Tensor slope = mul(mul(upstream, lower_bound), mul(sigmoid(az), sigmoid(neg(az))));
    dz = a.defined() ? mul(slope, a) : slope;
    times_rate = mul(dz, z);
  }
  GateGradients gradients;
  if (wanted.g) {
    gradients.dg = to(dz, g.dtype());
  }
  if (of_A_log) {
    gradients.dA_log = to(sum(times_rate, {0, 1, 3}), A_log.dtype());
  }
  if (of_dt_bias) {
    gradients.ddt_bias = to(flatten(sum(dz, {0, 1})), dt_bias.dtype());
  }
  return gradients;
}

}  // namespace

Tensor fused_gate(Gate gate, const Tensor& g, const Tensor& A_log, const Tensor& dt_bias, double lower_bound) {
  check_gate("kda::fused_gate", gate, g, A_log, dt_bias, lower_bound);
  if (gate == Gate::none || !one_type(g, A_log, dt_bias)) {
    return apply_gate(gate, g, A_log, dt_bias, lower_bound);
  }
  Tensor out = empty(g.shape(), g.options());
  backend_of(g).kda_gate(gate, lower_bound, contiguous(g.detach()), A_log, dt_bias, out);
  return record(
      "kda::fused_gate", std::move(out), {g, A_log, dt_bias},
      [g = Saved(g), A_log = Saved(A_log), dt_bias = Saved(dt_bias), gate, lower_bound](const RuleContext& c) {
        const Wanted wanted{c.needs_grad(0), c.needs_grad(1), c.needs_grad(2)};
        GateGradients gradients = wanted_gradients(wanted, gate, c.grad(0), g, A_log, dt_bias, lower_bound);
        return Gradients{std::move(gradients.dg), std::move(gradients.dA_log), std::move(gradients.ddt_bias)};
      });
}

GateGradients gate_backward(Gate gate, const Tensor& dy, const Tensor& g, const Tensor& A_log, const Tensor& dt_bias,
                            double lower_bound) {
  constexpr std::string_view kName = "kda::gate_backward";
  check_gate(kName, gate, g, A_log, dt_bias, lower_bound);
  check_defined(kName, "dy", dy);
  check_shape(kName, "dy", dy, g.shape(), "[B, T, HV, K]");
  check_same_device(kName, "dy", dy, g);
  check_floating(kName, "dy", dy);
  if (gate == Gate::none) {
    return {to(dy, g.dtype()), Tensor(), Tensor()};
  }
  return wanted_gradients({}, gate, dy, g, A_log, dt_bias, lower_bound);
}

}  // namespace deltatape::kda
