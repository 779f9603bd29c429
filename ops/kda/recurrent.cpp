#include "ops/kda/recurrent.h"

#include "ops/arithmetic.h"
#include "ops/creation.h"
#include "ops/joining.h"
#include "ops/kda/inputs.h"
#include "ops/kda/segments.h"
#include "ops/linalg.h"
#include "ops/unary.h"
#include "ops/views.h"

namespace deltatape::kda {
namespace {

/// The operands cut along time, each in the shape in which the step uses it.
struct Steps {
  std::vector<Tensor> q;       // [B,HV,1,K]
  std::vector<Tensor> k;       // [B,HV,1,K], the key as it reads the state
  std::vector<Tensor> beta_k;  // [B,HV,K,1], the key as it is written
  std::vector<Tensor> v;       // [B,HV,1,V]
  std::vector<Tensor> decay;   // [B,HV,K,1]
};

Steps cut_along_time(const Operands& x) {
  const Tensor beta_k = mul(x.k, unsqueeze(x.beta, -1));
  return {.q = unbind(unsqueeze(x.q, 3), 1),
          .k = unbind(unsqueeze(x.k, 3), 1),
          .beta_k = unbind(unsqueeze(beta_k, 4), 1),
          .v = unbind(unsqueeze(x.v, 3), 1),
          .decay = unbind(unsqueeze(exp(x.g), 4), 1)};
}

Output run_steps(const Problem& p, const Inputs& inputs, const Options& options) {
  const Operands x = prepare(p, inputs, options);
  const Steps steps = cut_along_time(x);
  const int64_t rows = p.varlen ? 1 : p.B;  // states per sequence in `bounds`
  const Tensor initial =
      x.initial_state.defined() ? x.initial_state : zeros({p.N, p.HV, p.K, p.V}, {p.compute_dtype, x.q.device()});
  const std::vector<Tensor> initial_states = p.varlen ? split(initial, rows, 0) : std::vector<Tensor>{initial};

  std::vector<Tensor> outputs;  // [B,HV,1,V] per step
  std::vector<Tensor> final_states;
  std::vector<Tensor> before_chunks;  // [rows,HV,K,V]
  outputs.reserve(static_cast<size_t>(p.T));
  for (size_t n = 0; n < initial_states.size(); ++n) {
    Tensor state = initial_states[n];  // [rows,HV,K,V]
    for (auto t = static_cast<size_t>(p.bounds[n]); t < static_cast<size_t>(p.bounds[n + 1]); ++t) {
      if (options.output_h && (static_cast<int64_t>(t) - p.bounds[n]) % options.chunk_size == 0) {
        before_chunks.push_back(state.detach());
      }
      const Tensor decayed = mul(state, steps.decay[t]);
      const Tensor error = sub(steps.v[t], matmul(steps.k[t], decayed));
      state = add(decayed, matmul(steps.beta_k[t], error));
      outputs.push_back(matmul(steps.q[t], state));
    }
    final_states.push_back(state);
  }
  const Tensor o = squeeze(stack(outputs, 1), 3);  // [B,T,HV,V]
  return finish(inputs, options, o, options.output_final_state ? cat(final_states, 0) : Tensor(),
                options.output_h ? stack(before_chunks, 1) : Tensor());
}

}  // namespace

Output recurrent(const Inputs& inputs, const Options& options) {
  constexpr std::string_view kName = "kda::recurrent";
  const Problem p = check_inputs(kName, inputs, options);
  if (p.segmented && p.B * p.T > 0) {
    return run_segmented(recurrent, p, inputs, options);
  }
  Output out = p.B * p.T == 0 ? finish_empty(p, inputs, options) : run_steps(p, inputs, options);
  out.kernel = kName;
  return out;
}

}  // namespace deltatape::kda
