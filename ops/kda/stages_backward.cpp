#include "ops/arithmetic.h"
#include "ops/convert.h"
#include "ops/creation.h"
#include "ops/joining.h"
#include "ops/kda/decay.h"
#include "ops/kda/stage_call.h"
#include "ops/linalg.h"
#include "ops/reduction.h"
#include "ops/unary.h"
#include "ops/views.h"

namespace deltatape::kda::stages {

using enum Dim;

namespace {

Tensor transposed(const Tensor& x) { return transpose(x, -1, -2); }

/// `part` and, where it was given, what an earlier stage left.
Tensor added(const Tensor& part, const Tensor& earlier) { return earlier.defined() ? add(part, earlier) : part; }

/// x [B,T,HV,K] summed over the value heads of a group: [B,T,H,K].
Tensor sum_over_groups(const Tensor& x, int64_t H) {
  const Shape& s = x.shape();
  return s[2] == H ? x : sum(reshape(x, {s[0], s[1], H, s[2] / H, s[3]}), {3});
}

}  // namespace

AvGradients dAv(const AvInputs& in, const StageOptions& options) {
  StageCall call("kda::stages::dAv", options, "d_o", in.d_o);
  call.expect("d_o", in.d_o, {B, T, HV, V});
  call.expect("v_new", in.v_new, {B, T, HV, V});
  call.expect("Aqk", in.Aqk, {B, T, HV, C});

  const Tensor d_o = call.chunks(in.d_o);
  return {.dAqk = call.tokens(tril(matmul(d_o, transposed(call.chunks(in.v_new))))),
          .dv = call.tokens(matmul(transposed(call.chunks(in.Aqk)), d_o))};
}

StateGradients dhu(const StateInputs& in, const StageOptions& options) {
  StageCall call("kda::stages::dhu", options, "qg", in.qg);
  call.expect("qg", in.qg, {B, T, HV, K});
  call.expect("kg", in.kg, {B, T, HV, K});
  call.expect("w", in.w, {B, T, HV, K});
  call.expect("d_o", in.d_o, {B, T, HV, V});
  call.expect("dv", in.dv, {B, T, HV, V});
  call.expect_decay(in.g, in.g_cumsum);
  call.expect_optional("dht", in.dht, {N, HV, K, V});

  const ChunkTable& table = call.table();
  const Tensor dht = to_loop_order(table, in.dht.defined() ? in.dht : zeros(call.states(), call.like()));
  if (call.size(NT) == 0) {
    return {
        .dh = zeros(call.chunk_states(), call.like()), .dh0 = clone(from_loop_order(table, dht)), .dv = clone(in.dv)};
  }
  const auto per_position = [&table](const Tensor& x) { return split(x, table.active, 0); };
  const std::vector<Tensor> kg = per_position(call.chunks(in.kg));
  const std::vector<Tensor> w = per_position(call.chunks(in.w));
  const std::vector<Tensor> decay = per_position(whole_decay(call.decay()));
  const std::vector<Tensor> dv = per_position(call.chunks(in.dv));
  const std::vector<Tensor> from_output =
      per_position(mul(matmul(transposed(call.chunks(in.qg)), call.chunks(in.d_o)), call.scale()));

  // From the last position to the first; the sequences that end at a position join with their dht.
  const size_t positions = table.active.size();
  std::vector<Tensor> dh(positions);
  std::vector<Tensor> dv_new(positions);
  Tensor dS = slice(dht, 0, {0, 0});
  for (size_t c = positions; c-- > 0;) {
    dS = cat({dS, slice(dht, 0, {dS.size(0), table.active[c]})}, 0);
    dh[c] = dS;
    dv_new[c] = add(dv[c], matmul(kg[c], dS));
    dS = sub(add(mul(dS, decay[c]), from_output[c]), matmul(transposed(w[c]), dv_new[c]));
  }
  dS = cat({dS, slice(dht, 0, {dS.size(0), std::nullopt})}, 0);
  return {
      .dh = chunks_in_time(table, cat(dh, 0)), .dh0 = from_loop_order(table, dS), .dv = call.tokens(cat(dv_new, 0))};
}

WyGradients wy_dqkg(const WyInputs& in, const StageOptions& options) {
  StageCall call("kda::stages::wy_dqkg", options, "q", in.q);
  call.expect("q", in.q, {B, T, H, K});
  call.expect("k", in.k, {B, T, H, K});
  call.expect("v", in.v, {B, T, HV, V});
  call.expect("beta", in.beta, {B, T, HV});
  call.expect_decay(in.g, in.g_cumsum);
  call.expect("Akk", in.Akk, {B, T, HV, C});
  call.expect("h", in.h, {B, NT, HV, K, V});
  call.expect("v_new", in.v_new, {B, T, HV, V});
  call.expect("d_o", in.d_o, {B, T, HV, V});
  call.expect("dh", in.dh, {B, NT, HV, K, V});
  call.expect("dv", in.dv, {B, T, HV, V});
  call.expect_groups();

  const Tensor q = call.chunks(in.q);
  const Tensor k = call.chunks(in.k);
  const Tensor beta = call.chunks(in.beta);
  const Tensor v_new = call.chunks(in.v_new);
  const Tensor S0 = chunks_from_time(call.table(), in.h);
  const Tensor dS = chunks_from_time(call.table(), in.dh);
  const Tensor g = call.decay();
  const Tensor from_start = decay_from_start(g);
  const Tensor to_end = decay_to_end(g);
  const Tensor whole = whole_decay(g);

  const Tensor L = matmul(transposed(call.chunks(in.Akk)), call.chunks(in.dv));
  const Tensor Z = matmul(L, transposed(S0));
  const Tensor dq = mul(mul(matmul(call.chunks(in.d_o), transposed(S0)), from_start), call.scale());
  const Tensor dk_read = neg(mul(mul(Z, from_start), beta));             // the key as it reads the state
  const Tensor dk_written = mul(matmul(v_new, transposed(dS)), to_end);  // the key as it leaves the chunk
  const Tensor dbeta = sub(sum(mul(L, call.chunks(in.v)), {-1}, true), sum(mul(Z, mul(k, from_start)), {-1}, true));
  // Every path from S0 to a row crosses the steps up to it, every path from a row to the end those after it, and what
  // of S0 reaches the end crosses all of them.
  const Tensor into = cumsum(add(mul(q, dq), mul(k, dk_read)), -2, true);
  const Tensor out_of = sum_of_rows_before(mul(k, dk_written));
  const Tensor through = transposed(mul(sum(mul(S0, dS), {-1}, true), whole));

  WyGradients result;
  result.dq = call.tokens(dq);
  result.dk = call.tokens(add(dk_read, dk_written));
  result.dv = call.tokens(mul(L, beta));
  result.dbeta = squeeze(call.tokens(dbeta), -1);
  result.dg = call.tokens(add(add(into, out_of), through));
  result.dAkk = call.tokens(neg(tril(matmul(L, transposed(v_new)), -1)));
  return result;
}

BackwardIntraGradients backward_intra(const BackwardIntraInputs& in, const StageOptions& options) {
  StageCall call("kda::stages::backward_intra", options, "q", in.q);
  call.expect("q", in.q, {B, T, H, K});
  call.expect("k", in.k, {B, T, H, K});
  call.expect("beta", in.beta, {B, T, HV});
  call.expect_decay(in.g, in.g_cumsum);
  call.expect("dAqk", in.dAqk, {B, T, HV, C});
  call.expect("dAkk", in.dAkk, {B, T, HV, C});
  call.expect_optional("dq", in.dq, {B, T, HV, K});
  call.expect_optional("dk", in.dk, {B, T, HV, K});
  call.expect_optional("dbeta", in.dbeta, {B, T, HV});
  call.expect_optional("dg", in.dg, {B, T, HV, K});
  call.expect_groups();

  const Tensor q = call.chunks(in.q);
  const Shape& s = q.shape();
  const Shape flat{s[0] * s[1] * s[2], s[3], s[4]};
  const Shape square{flat[0], s[3], s[3]};
  const Tensor q_flat = reshape(q, flat);
  const Tensor k_flat = reshape(call.chunks(in.k), flat);
  const Tensor g_flat = reshape(call.decay(), flat);
  const Tensor beta = reshape(call.chunks(in.beta), {flat[0], s[3], 1});
  const Tensor dM = tril(reshape(call.chunks(in.dAkk), square), -1);
  const Tensor dP = mul(reshape(call.chunks(in.dAqk), square), call.scale());

  const Tensor N_matrix = decayed_products(q_flat, k_flat, g_flat).kk;
  const DecayedProductGradients pairs = decayed_products_backward(q_flat, k_flat, g_flat, mul(dM, beta), dP);
  const Tensor dbeta = reshape(sum(mul(dM, N_matrix), {-1}, true), {s[0], s[1], s[2], s[3], 1});
  const auto tokens = [&](const Tensor& x) { return call.tokens(reshape(x, s)); };
  return {.dq = sum_over_groups(added(tokens(pairs.dq), in.dq), call.size(H)),
          .dk = sum_over_groups(added(tokens(pairs.dk), in.dk), call.size(H)),
          .dbeta = added(squeeze(call.tokens(dbeta), -1), in.dbeta),
          .dg = added(tokens(pairs.dg), in.dg)};
}

}  // namespace deltatape::kda::stages
