#include "ops/kda/segments.h"

#include "ops/convert.h"
#include "ops/creation.h"
#include "ops/indexing.h"
#include "ops/joining.h"
#include "ops/views.h"

namespace deltatape::kda {
namespace {

/// x [B,T,..] as [1,B*T,..].
Tensor end_to_end(const Tensor& x) { return unsqueeze(flatten(x, 0, 1), 0); }

/// Initial states [N,..] as one per sequence, zeros where a sequence has none.
Tensor spread_states(const Tensor& states, const std::vector<Sequence>& sequences) {
  std::vector<int64_t> source;
  source.reserve(sequences.size());
  for (const Sequence& sequence : sequences) {
    source.push_back(sequence.state_in >= 0 ? sequence.state_in : states.size(0));
  }
  Shape one_state = states.shape();
  one_state[0] = 1;
  return index_select(cat({states, zeros(one_state, states.options())}, 0), 0,
                      to(from_vector(source), states.device()));
}

/// The final states that were asked for, [N,..], from one per sequence.
Tensor gather_states(const Tensor& states, const Problem& p) {
  std::vector<int64_t> source(static_cast<size_t>(p.N));
  for (size_t n = 0; n < p.sequences.size(); ++n) {
    if (p.sequences[n].state_out >= 0) {
      source[static_cast<size_t>(p.sequences[n].state_out)] = static_cast<int64_t>(n);
    }
  }
  return index_select(states, 0, to(from_vector(source), states.device()));
}

}  // namespace

Output run_segmented(Output (*implementation)(const Inputs&, const Options&), const Problem& p, const Inputs& in,
                     const Options& options) {
  Inputs packed;
  packed.q = end_to_end(in.q);
  packed.k = end_to_end(in.k);
  packed.v = end_to_end(in.v);
  packed.g = end_to_end(in.g);
  packed.beta = end_to_end(in.beta);
  packed.A_log = in.A_log;
  packed.dt_bias = in.dt_bias;
  if (in.initial_state.defined()) {
    packed.initial_state = spread_states(in.initial_state, p.sequences);
  }
  std::vector<int64_t> bounds{0};
  for (const Sequence& sequence : p.sequences) {
    bounds.push_back(bounds.back() + sequence.length());
  }
  packed.cu_seqlens = to(from_vector(bounds), in.q.device());

  Output out = implementation(packed, options);
  out.o = reshape(out.o, in.v.shape());
  if (options.output_final_state) {
    out.final_state = gather_states(out.final_state, p);
  }
  return out;
}

}  // namespace deltatape::kda
