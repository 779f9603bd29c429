// The elementwise parts of KDA: log decay from logits, write strength from logits.
#pragma once

#include "ops/kda/options.h"

namespace deltatape::kda {

/// Log decay [B,T,HV,K] from gate logits g of that shape, A_log [HV] and dt_bias [HV*K] (see Gate). Differentiable in
/// all three. Throws Error for Gate::standard without A_log, and for shapes that do not fit.
Tensor apply_gate(Gate gate, const Tensor& g, const Tensor& A_log, const Tensor& dt_bias, double lower_bound);

/// beta in (0,1), or (0,2) with `allow_neg_eigval`, from its logits.
Tensor beta_from_logits(const Tensor& logits, bool allow_neg_eigval);

}  // namespace deltatape::kda
