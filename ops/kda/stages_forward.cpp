#include "ops/arithmetic.h"
#include "ops/convert.h"
#include "ops/creation.h"
#include "ops/kda/decay.h"
#include "ops/kda/stage_call.h"
#include "ops/kda/state_loop.h"
#include "ops/linalg.h"
#include "ops/views.h"

namespace deltatape::kda::stages {

using enum Dim;

Intra intra(const IntraInputs& in, const StageOptions& options) {
  StageCall call("kda::stages::intra", options, "q", in.q);
  call.expect("q", in.q, {B, T, H, K});
  call.expect("k", in.k, {B, T, H, K});
  call.expect("beta", in.beta, {B, T, HV});
  call.expect_decay(in.g, in.g_cumsum);
  call.expect_groups();

  const Tensor q = call.chunks(in.q);
  const Shape& s = q.shape();
  const Shape flat{s[0] * s[1] * s[2], s[3], s[4]};
  const Shape square{s[0], s[1], s[2], s[3], s[3]};
  const DecayedProducts products =
      decayed_products(reshape(q, flat), reshape(call.chunks(in.k), flat), reshape(call.decay(), flat));
  const Tensor M = mul(reshape(products.kk, square), call.chunks(in.beta));
  const Tensor identity = expand(eye(call.size(C), call.like()), square);
  return {.Aqk = call.tokens(mul(reshape(products.qk, square), call.scale())),
          .Akk = call.tokens(solve_triangular(M, identity, true, true))};
}

Recomputed recompute_w_u(const RecomputeInputs& in, const StageOptions& options) {
  StageCall call("kda::stages::recompute_w_u", options, "k", in.k);
  call.expect("k", in.k, {B, T, H, K});
  call.expect_optional("q", in.q, {B, T, H, K});
  call.expect("v", in.v, {B, T, HV, V});
  call.expect("beta", in.beta, {B, T, HV});
  call.expect("Akk", in.Akk, {B, T, HV, C});
  call.expect_decay(in.g, in.g_cumsum);
  call.expect_groups();

  const Tensor k = call.chunks(in.k);
  const Tensor g = call.decay();
  const Tensor beta = call.chunks(in.beta);
  const Tensor Akk = call.chunks(in.Akk);
  const Tensor from_start = decay_from_start(g);
  Recomputed result;
  result.w = call.tokens(matmul(Akk, mul(mul(k, from_start), beta)));
  result.u = call.tokens(matmul(Akk, mul(call.chunks(in.v), beta)));
  result.kg = call.tokens(mul(k, decay_to_end(g)));
  if (in.q.defined()) {
    result.qg = call.tokens(mul(call.chunks(in.q), from_start));
  }
  return result;
}

Propagated propagate_states(const PropagateInputs& in, const StageOptions& options) {
  StageCall call("kda::stages::propagate_states", options, "kg", in.kg);
  call.expect("kg", in.kg, {B, T, HV, K});
  call.expect("w", in.w, {B, T, HV, K});
  call.expect("u", in.u, {B, T, HV, V});
  call.expect_decay(in.g, in.g_cumsum);
  call.expect_optional("initial_state", in.initial_state, {N, HV, K, V});

  const Tensor initial = in.initial_state.defined() ? in.initial_state : zeros(call.states(), call.like());
  if (call.size(NT) == 0) {
    return {.h = zeros(call.chunk_states(), call.like()), .v_new = clone(in.u), .final_state = clone(initial)};
  }
  const ChunkTable& table = call.table();
  const StateSteps steps{
      .u = call.chunks(in.u), .w = call.chunks(in.w), .kg = call.chunks(in.kg), .decay = whole_decay(call.decay())};
  const StateHistory history = carry_states(table, steps, to_loop_order(table, initial), true);
  return {.h = chunks_in_time(table, history.before),
          .v_new = call.tokens(history.v_new),
          .final_state = from_loop_order(table, history.final_states)};
}

Tensor output_o(const OutputInputs& in, const StageOptions& options) {
  StageCall call("kda::stages::output_o", options, "qg", in.qg);
  call.expect("qg", in.qg, {B, T, HV, K});
  call.expect("Aqk", in.Aqk, {B, T, HV, C});
  call.expect("v_new", in.v_new, {B, T, HV, V});
  call.expect("h", in.h, {B, NT, HV, K, V});

  const Tensor from_state = matmul(call.chunks(in.qg), chunks_from_time(call.table(), in.h));
  return call.tokens(add(mul(from_state, call.scale()), matmul(call.chunks(in.Aqk), call.chunks(in.v_new))));
}

}  // namespace deltatape::kda::stages
