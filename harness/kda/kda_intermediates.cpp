#include "harness/kda/kda_intermediates.h"

#include "autograd/grad_mode.h"
#include "harness/kda/kda.h"
#include "ops/convert.h"
#include "ops/creation.h"
#include "ops/kda/gate.h"
#include "ops/kda/stages.h"
#include "ops/norm.h"
#include "ops/views.h"

namespace deltatape::harness {
namespace {

Tensor states(const Tensor& x, bool v_first) { return x.defined() && v_first ? contiguous(transpose(x, -1, -2)) : x; }

}  // namespace

NamedTensors kda_intermediates(const Case& c) {
  const NoGradGuard no_grad;
  const kda::Inputs in = kda_inputs(c.inputs);
  const kda::Options options = kda_options(c.settings);
  if (in.segment_ids.defined() || in.q.numel() == 0 || in.v.numel() == 0) {
    return {};
  }
  namespace stages = kda::stages;
  const stages::StageOptions stage{
      .scale = options.scale, .chunk_size = options.chunk_size, .cu_seqlens = in.cu_seqlens};
  const auto normalized = [&](const Tensor& x) { return options.use_qk_l2norm ? l2_normalize(x) : x; };
  const Tensor q = normalized(in.q);
  const Tensor k = normalized(in.k);
  const Tensor g = kda::apply_gate(options.gate, in.g, in.A_log, in.dt_bias, options.lower_bound);
  const Tensor beta = options.use_beta_sigmoid ? kda::beta_from_logits(in.beta, options.allow_neg_eigval) : in.beta;
  const Tensor h0 = states(in.initial_state, options.state_v_first);

  const stages::Intra intra = stages::intra({.q = q, .k = k, .g = g, .beta = beta}, stage);
  const stages::Recomputed made =
      stages::recompute_w_u({.q = q, .k = k, .v = in.v, .g = g, .beta = beta, .Akk = intra.Akk}, stage);
  const stages::Propagated states_of_chunks =
      stages::propagate_states({.kg = made.kg, .w = made.w, .u = made.u, .g = g, .initial_state = h0}, stage);
  NamedTensors result = {{"g_cumsum", kda::chunk_cumsum(g, options.chunk_size, in.cu_seqlens)},
                         {"Aqk", intra.Aqk},
                         {"Akk", intra.Akk},
                         {"w", made.w},
                         {"u", made.u},
                         {"qg", made.qg},
                         {"kg", made.kg},
                         {"h", states_of_chunks.h},
                         {"v_new", states_of_chunks.v_new}};
  if (c.upstream.empty()) {
    return result;
  }
  const Tensor given = find(c.upstream, "o");
  const Tensor d_o = given.defined() ? given : zeros(in.v.shape(), in.v.options());
  const stages::AvGradients av = stages::dAv({.d_o = d_o, .v_new = states_of_chunks.v_new, .Aqk = intra.Aqk}, stage);
  const stages::StateGradients dhu = stages::dhu({.qg = made.qg,
                                                  .kg = made.kg,
                                                  .w = made.w,
                                                  .g = g,
                                                  .d_o = d_o,
                                                  .dv = av.dv,
                                                  .dht = states(find(c.upstream, "ht"), options.state_v_first)},
                                                 stage);
  const stages::WyGradients wy = stages::wy_dqkg({.q = q,
                                                  .k = k,
                                                  .v = in.v,
                                                  .g = g,
                                                  .beta = beta,
                                                  .Akk = intra.Akk,
                                                  .h = states_of_chunks.h,
                                                  .v_new = states_of_chunks.v_new,
                                                  .d_o = d_o,
                                                  .dh = dhu.dh,
                                                  .dv = dhu.dv},
                                                 stage);
  result.emplace_back("dAqk", av.dAqk);
  result.emplace_back("dh", dhu.dh);
  result.emplace_back("dAkk", wy.dAkk);
  return result;
}

}  // namespace deltatape::harness
