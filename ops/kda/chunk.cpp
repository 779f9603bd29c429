#include "ops/kda/chunk.h"

#include "ops/arithmetic.h"
#include "ops/creation.h"
#include "ops/joining.h"
#include "ops/kda/chunk_layout.h"
#include "ops/kda/decay.h"
#include "ops/kda/inputs.h"
#include "ops/kda/segments.h"
#include "ops/kda/state_loop.h"
#include "ops/linalg.h"
#include "ops/views.h"

namespace deltatape::kda {
namespace {

struct ChunkParts {
  StateSteps steps;
  Tensor q_decayed;  // [NC,B,HV,C,K], q exp(G)
  Tensor Aqk;        // [NC,B,HV,C,C]
};

/// Everything that one chunk needs no other chunk for. q, k, v, g, beta [NC,B,HV,C,..], beta with a last size of 1.
ChunkParts inside_chunks(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& g, const Tensor& beta) {
  const Shape& s = q.shape();
  const Shape flat{s[0] * s[1] * s[2], s[3], s[4]};
  const Shape square{s[0], s[1], s[2], s[3], s[3]};
  const DecayedProducts products = decayed_products(reshape(q, flat), reshape(k, flat), reshape(g, flat));
  const Tensor from_start = reshape(products.from_start, s);

  const Tensor M = mul(reshape(products.kk, square), beta);
  const Tensor right = mul(cat({v, mul(k, from_start)}, -1), beta);
  const std::vector<Tensor> uw = split(solve_triangular(M, right, true, true), {v.size(-1), s[4]}, -1);
  ChunkParts parts;
  parts.steps.u = uw[0];
  parts.steps.w = uw[1];
  parts.steps.kg = mul(k, reshape(products.to_end, s));
  parts.steps.decay = reshape(products.whole, {s[0], s[1], s[2], s[4], 1});
  parts.q_decayed = mul(q, from_start);
  parts.Aqk = reshape(products.qk, square);
  return parts;
}

Output run_chunks(const Problem& p, const Inputs& inputs, const Options& options) {
  const Operands x = prepare(p, inputs, options);
  const ChunkTable table(p.bounds, p.varlen, options.chunk_size, x.q.device());
  const ChunkParts parts = inside_chunks(to_chunks(table, x.q), to_chunks(table, x.k), to_chunks(table, x.v),
                                         to_chunks(table, x.g), to_chunks(table, unsqueeze(x.beta, -1)));
  const Tensor initial =
      x.initial_state.defined() ? x.initial_state : zeros({p.N, p.HV, p.K, p.V}, {p.compute_dtype, x.q.device()});
  const StateHistory history =
      carry_states(table, parts.steps, to_loop_order(table, initial), options.output_final_state);

  const Tensor o = add(matmul(parts.q_decayed, history.before), matmul(parts.Aqk, history.v_new));
  return finish(inputs, options, from_chunks(table, o, p.T),
                options.output_final_state ? from_loop_order(table, history.final_states) : Tensor(),
                options.output_h ? chunks_in_time(table, history.before.detach()) : Tensor());
}

}  // namespace

Output chunk(const Inputs& inputs, const Options& options) {
  constexpr std::string_view kName = "kda::chunk";
  const Problem p = check_inputs(kName, inputs, options);
  if (p.segmented && p.B * p.T > 0) {
    return run_segmented(chunk, p, inputs, options);
  }
  Output out = p.B * p.T == 0 ? finish_empty(p, inputs, options) : run_chunks(p, inputs, options);
  out.kernel = kName;
  return out;
}

}  // namespace deltatape::kda
