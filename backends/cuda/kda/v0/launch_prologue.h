// Launches of the prologue.
#pragma once

#include "backends/cuda/block_launch.h"
#include "backends/cuda/kda/v0/prologue.h"
#include "backends/cuda/kda/v0/workspace.h"

namespace deltatape::cuda::kda::v0 {

/// Fills the operands of the heads of `call`.
template <class T>
void launch_prologue(const Stream& stream, const Call& call, const KernelInputs& inputs, const Operands<T>& x) {
  const int64_t keys = call.rows * call.key_heads();
  const int64_t values = call.rows * call.heads;
  launch_program<32>(stream, keys, 0, NormalizeRows<T>{call, Reader<T>(inputs.q), x.q, x.q_norm});
  launch_program<32>(stream, keys, 0, NormalizeRows<T>{call, Reader<T>(inputs.k), x.k, x.k_norm});
  const GateParameters<T> gate{Reader<T>(inputs.A_log), Reader<T>(inputs.dt_bias)};
  launch_elements(stream, values * call.K, Decays<T>{call, Reader<T>(inputs.g), gate, x.decay});
  launch_elements(stream, values, Betas<T>{call, Reader<T>(inputs.beta), x.beta});
}

/// launch(call) for one part of the heads after another.
template <class Launch>
void for_head_parts(const Call& whole, int64_t heads, const Launch& launch) {
  for (int64_t first = 0; first < whole.HV; first += heads) {
    Call call = whole;
    call.first_head = first;
    call.heads = heads < whole.HV - first ? heads : whole.HV - first;
    launch(call);
  }
}

}  // namespace deltatape::cuda::kda::v0
