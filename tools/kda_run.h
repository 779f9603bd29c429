// One KDA case through one implementation: the inputs as a dtype has them, outputs and gradients by name.
#pragma once

#include <string>
#include <vector>

#include "ops/kda/plan.h"
#include "tools/comparison.h"
#include "tools/kda_case.h"

namespace deltatape::tools {

/// What --impl takes: recurrent, chunk, fused-recurrent, fused-chunk.
std::vector<std::string> kda_implementations();
/// The implementation of this name. Throws Error naming --impl.
kda::Implementation kda_implementation(const std::string& name);
/// What `composed`, `fused` and `auto` mean to a layer or a model. On the CPU the last two are the same: the fused
/// kernel that suits the call.
kda::Implementation model_implementation(const std::string& word);

/// `c` as a kernel of this dtype gets it, on `device`: q k v g beta and d_o in `dtype`; A_log, dt_bias and the states
/// in f32, or f64 with f64.
KdaCase rounded(const KdaCase& c, DType dtype, Device device);
/// `c` in f64 on the host, with the values it has.
KdaCase widened(const KdaCase& c);

/// The outputs o and ht (when the options ask for it) and, unless `c` has no upstream gradient, the gradients dq, dk,
/// dv, dg, dbeta, dA_log, ddt_bias and dh0 of the inputs that are there. A missing upstream gradient counts as 0.
/// Throws Error when a fused implementation was asked for and another one ran.
NamedTensors run_kda(const KdaCase& c, kda::Implementation implementation);

}  // namespace deltatape::tools
