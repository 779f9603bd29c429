// What gate.cpp, fused_gate.cpp and gate_sums.cpp share. Not part of the public interface.
#pragma once

#include <string_view>

#include "ops/kda/options.h"

namespace deltatape::kda {

/// Throws Error in the name of `function` unless the arguments make a gate.
void check_gate(std::string_view function, Gate gate, const Tensor& g, const Tensor& A_log, const Tensor& dt_bias,
                double lower_bound);

/// What the sigmoid or softplus is taken of, before the factor exp(A_log).
Tensor biased(const Tensor& g, const Tensor& dt_bias);

/// exp(A_log) as [HV,1].
Tensor rate(const Tensor& A_log);

/// Tensors of 16 bits are computed with in f32.
Tensor computed_gate(const Tensor& x);

}  // namespace deltatape::kda
