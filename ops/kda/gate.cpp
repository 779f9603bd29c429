#include "ops/kda/gate.h"

#include <cmath>

#include "ops/arithmetic.h"
#include "ops/unary.h"
#include "ops/views.h"

namespace deltatape::kda {

Tensor apply_gate(Gate gate, const Tensor& g, const Tensor& A_log, const Tensor& dt_bias, double lower_bound) {
  constexpr std::string_view kName = "kda::apply_gate";
  check(g.defined() && g.rank() == 4, kName, "g has shape {}, expected 4 dimensions [B, T, HV, K]",
        g.defined() ? to_string(g.shape()) : "none");
  if (gate == Gate::none) {
    check(!A_log.defined() && !dt_bias.defined(), kName,
          "A_log or dt_bias is given and the gate is none, expected neither");
    return g;
  }
  const int64_t heads = g.size(2);
  const int64_t channels = g.size(3);
  check(!A_log.defined() || A_log.shape() == Shape{heads}, kName, "A_log has shape {}, expected [HV] = [{}]",
        A_log.defined() ? to_string(A_log.shape()) : "none", heads);
  check(!dt_bias.defined() || dt_bias.shape() == Shape{heads * channels}, kName,
        "dt_bias has shape {}, expected [HV*K] = [{}]", dt_bias.defined() ? to_string(dt_bias.shape()) : "none",
        heads * channels);

  const Tensor z = dt_bias.defined() ? add(g, reshape(dt_bias, {heads, channels})) : g;
  const Tensor a = A_log.defined() ? unsqueeze(exp(A_log), -1) : Tensor();  // [HV,1]
  if (gate == Gate::standard) {
    check(a.defined(), kName, "A_log is missing, expected a tensor [HV] for the standard gate");
    return mul(softplus(z), neg(a));
  }
  check(std::isfinite(lower_bound) && lower_bound < 0.0, kName, "lower_bound is {}, expected a finite number below 0",
        lower_bound);
  return mul(sigmoid(a.defined() ? mul(z, a) : z), lower_bound);
}

Tensor beta_from_logits(const Tensor& logits, bool allow_neg_eigval) {
  check(logits.defined(), "kda::beta_from_logits", "logits is missing, expected a tensor");
  const Tensor beta = sigmoid(logits);
  return allow_neg_eigval ? mul(beta, 2.0) : beta;
}

}  // namespace deltatape::kda
