// KDA cases on another device.
#pragma once

#include "ops/convert.h"
#include "tests/ops/kda/kda_cases.h"

namespace deltatape::test {

/// The tensors of a case on `device`.
inline KDACase on_device(const KDACase& c, Device device) {
  KDACase moved = c;
  kda::Inputs& in = moved.inputs;
  for (Tensor* const x : {&in.q, &in.k, &in.v, &in.g, &in.beta, &in.A_log, &in.dt_bias, &in.initial_state,
                          &in.cu_seqlens, &in.segment_ids, &moved.d_o, &moved.d_ht}) {
    *x = x->defined() ? to(*x, device) : *x;
  }
  return moved;
}

/// Results on the host.
inline NamedResults on_host(const NamedResults& results) {
  NamedResults moved = results;
  for (auto& result : moved) {
    result.second = to(result.second, Device::cpu());
  }
  return moved;
}

/// run_case with the tensors of the case on the first CUDA device; the results are checked to be there.
inline NamedResults run_case_on_cuda(KDAFunction function, const KDACase& c) {
  return on_host(run_case(function, on_device(c, Device::cuda())));
}

}  // namespace deltatape::test
