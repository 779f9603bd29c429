// The gate of KDA as one kernel forward and one backward.
#pragma once

#include "ops/kda/options.h"

namespace deltatape::kda {

/// What apply_gate (ops/kda/gate.h) computes, with its arguments and errors, but as one node of the tape with a
/// hand-written backward, gate_backward. FLA: fused_kda_gate.
Tensor fused_gate(Gate gate, const Tensor& g, const Tensor& A_log, const Tensor& dt_bias, double lower_bound);

}  // namespace deltatape::kda
