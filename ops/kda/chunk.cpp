#include "ops/kda/chunk.h"

#include <algorithm>

#include "ops/arithmetic.h"
#include "ops/creation.h"
#include "ops/joining.h"
#include "ops/kda/chunk_layout.h"
#include "ops/kda/decay.h"
#include "ops/linalg.h"
#include "ops/views.h"

namespace deltatape::kda {
namespace {

/// What the state loop needs of every chunk, and what the output needs afterwards. All [NC,B,HV,..].
struct ChunkParts {
  Tensor u;          // [C,V], what a chunk would write to a zero state
  Tensor w;          // [C,K], what of the state it takes away: v_new = u - w S
  Tensor kg;         // [C,K], keys as they arrive at the end of the chunk
  Tensor decay;      // [K,1], exp(G_C)
  Tensor q_decayed;  // [C,K], q exp(G)
  Tensor Aqk;        // [C,C]
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
  parts.u = uw[0];
  parts.w = uw[1];
  parts.kg = mul(k, reshape(products.to_end, s));
  parts.decay = reshape(products.whole, {s[0], s[1], s[2], s[4], 1});
  parts.q_decayed = mul(q, from_start);
  parts.Aqk = reshape(products.qk, square);
  return parts;
}

/// What the state loop leaves behind.
struct StateHistory {
  Tensor before;        // [NC,B,HV,K,V], the state before every chunk
  Tensor v_new;         // [NC,B,HV,C,V], what every chunk writes
  Tensor final_states;  // in loop order; undefined unless asked for
};

/// The only part that is sequential: from chunk to chunk, all sequences at once.
StateHistory carry_states(const ChunkTable& table, const ChunkParts& parts, Tensor state, bool want_final) {
  const std::vector<Tensor> u = split(parts.u, table.active, 0);
  const std::vector<Tensor> w = split(parts.w, table.active, 0);
  const std::vector<Tensor> kg = split(transpose(parts.kg, -1, -2), table.active, 0);
  const std::vector<Tensor> decay = split(parts.decay, table.active, 0);
  std::vector<Tensor> before;
  std::vector<Tensor> v_new;
  std::vector<Tensor> finished;  // states of sequences that have ended, the shortest first
  for (size_t c = 0; c < table.active.size(); ++c) {
    const int64_t going_on = table.active[c];
    if (going_on < state.size(0)) {
      const std::vector<Tensor> parted = split(state, {going_on, state.size(0) - going_on}, 0);
      state = parted[0];
      finished.push_back(parted[1]);
    }
    before.push_back(state);
    v_new.push_back(sub(u[c], matmul(w[c], state)));
    if (want_final || c + 1 < table.active.size()) {
      state = add(mul(state, decay[c]), matmul(kg[c], v_new.back()));
    }
  }
  StateHistory history{cat(before, 0), cat(v_new, 0), Tensor()};
  if (want_final) {
    finished.push_back(state);
    std::reverse(finished.begin(), finished.end());
    history.final_states = cat(finished, 0);
  }
  return history;
}

}  // namespace

Output chunk(const Inputs& inputs, const Options& options) {
  const Problem p = check_inputs("kda::chunk", inputs, options);
  if (p.T == 0) {
    return finish_empty(p, inputs, options);
  }
  const Operands x = prepare(p, inputs, options);
  const ChunkTable table(p, options.chunk_size, x.q.device());
  const ChunkParts parts = inside_chunks(to_chunks(table, x.q), to_chunks(table, x.k), to_chunks(table, x.v),
                                         to_chunks(table, x.g), to_chunks(table, unsqueeze(x.beta, -1)));
  const Tensor initial =
      x.initial_state.defined() ? x.initial_state : zeros({p.N, p.HV, p.K, p.V}, {p.compute_dtype, x.q.device()});
  const StateHistory history = carry_states(table, parts, to_loop_order(table, initial), options.output_final_state);

  const Tensor o = add(matmul(parts.q_decayed, history.before), matmul(parts.Aqk, history.v_new));
  return finish(inputs, options, from_chunks(table, o, p.T),
                options.output_final_state ? from_loop_order(table, history.final_states) : Tensor());
}

}  // namespace deltatape::kda
