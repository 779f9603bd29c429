// Calls of a backend's KDA kernels without ops around them: the same call on two devices, with any gradients left out.
#pragma once

#include <string>

#include "backends/backend.h"
#include "tests/ops/kda/kda_cases.h"

namespace deltatape::test {

/// A call that passed the checks; tensors on the host.
struct KernelCall {
  kda::KernelProblem problem;
  kda::KernelInputs inputs;
  Shape h_shape;
  bool with_h = false;
  bool with_final_state = false;
  Tensor d_o;            // upstream; may be undefined
  Tensor d_final_state;  // likewise
};

/// The call that kda::fused_chunk or fused_recurrent would make of a case.
KernelCall kernel_call(const KDACase& c, kda::Form form = kda::Form::chunk);

/// Every gradient there is an input for.
inline constexpr unsigned kAllGradients = 0xff;

/// Forward and backward on a device; results on the host, named as by run_case. Bit i of `gradients`: gradient i of dq,
/// dk, dv, dg, dbeta, dA_log, ddt_bias, dh0 is wanted.
NamedResults run_kernels(const KernelCall& call, Device device, unsigned gradients = kAllGradients);

/// A copy of a dense tensor on another device; an undefined one stays so.
Tensor copy_to(const Tensor& x, Device device);

}  // namespace deltatape::test
