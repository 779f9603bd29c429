#include "ops/kda/gate.h"

#include <cmath>

#include "ops/arithmetic.h"
#include "ops/checks.h"
#include "ops/convert.h"
#include "ops/kda/gate_parts.h"
#include "ops/unary.h"
#include "ops/views.h"

namespace deltatape::kda {
namespace {

void check_parameter(std::string_view function, std::string_view name, const Tensor& x, const Tensor& g) {
  if (x.defined()) {
    check_floating(function, name, x);
    check_same_device(function, name, x, g);
  }
}

}  // namespace

void check_gate(std::string_view function, Gate gate, const Tensor& g, const Tensor& A_log, const Tensor& dt_bias,
                double lower_bound) {
  check(g.defined() && g.rank() == 4, function, "g has shape {}, expected 4 dimensions [B, T, HV, K]",
        g.defined() ? to_string(g.shape()) : "none");
  check_floating(function, "g", g);
  if (gate == Gate::none) {
    check(!A_log.defined() && !dt_bias.defined(), function,
          "A_log or dt_bias is given and the gate is none, expected neither");
    return;
  }
  const int64_t heads = g.size(2);
  const int64_t channels = g.size(3);
  check(!A_log.defined() || A_log.shape() == Shape{heads}, function, "A_log has shape {}, expected [HV] = [{}]",
        A_log.defined() ? to_string(A_log.shape()) : "none", heads);
  check(!dt_bias.defined() || dt_bias.shape() == Shape{heads * channels}, function,
        "dt_bias has shape {}, expected [HV*K] = [{}]", dt_bias.defined() ? to_string(dt_bias.shape()) : "none",
        heads * channels);
  check_parameter(function, "A_log", A_log, g);
  check_parameter(function, "dt_bias", dt_bias, g);
  if (gate == Gate::standard) {
    check(A_log.defined(), function, "A_log is missing, expected a tensor [HV] for the standard gate");
    return;
  }
  check(gate == Gate::lower_bound, function, "gate is {}, expected none, standard or lower_bound",
        static_cast<int>(gate));
  check(std::isfinite(lower_bound) && lower_bound < 0.0, function,
        "lower_bound is {}, expected a finite number below 0", lower_bound);
}

Tensor biased(const Tensor& g, const Tensor& dt_bias) {
  return dt_bias.defined() ? add(g, reshape(dt_bias, {g.size(2), g.size(3)})) : g;
}

Tensor rate(const Tensor& A_log) { return unsqueeze(exp(A_log), -1); }

Tensor computed_gate(const Tensor& x) { return x.defined() && x.dtype() != DType::f64 ? to(x, DType::f32) : x; }

Tensor apply_gate(Gate gate, const Tensor& g, const Tensor& A_log, const Tensor& dt_bias, double lower_bound) {
  check_gate("kda::apply_gate", gate, g, A_log, dt_bias, lower_bound);
  if (gate == Gate::none) {
    return g;
  }
  const Tensor z = biased(computed_gate(g), computed_gate(dt_bias));
  const Tensor a = A_log.defined() ? rate(computed_gate(A_log)) : Tensor();
  const Tensor decay =
      gate == Gate::standard ? mul(softplus(z), neg(a)) : mul(sigmoid(a.defined() ? mul(z, a) : z), lower_bound);
  return to(decay, g.dtype());
}

Tensor beta_from_logits(const Tensor& logits, bool allow_neg_eigval) {
  check(logits.defined(), "kda::beta_from_logits", "logits is missing, expected a tensor");
  const Tensor beta = sigmoid(logits);
  return allow_neg_eigval ? mul(beta, 2.0) : beta;
}

}  // namespace deltatape::kda
