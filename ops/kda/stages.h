// The stages of the chunk form one by one, forward and backward, for people who debug kernels: every intermediate
// tensor in token layout, written with composed ops. Clear rather than fast; kda::chunk and kda::fused_chunk are the
// operator.
//
// Per chunk of C tokens, with g the log decay (after the gate), G its inclusive sum from the start of the chunk, G_C
// its last row, S0 the state before the chunk:
//
//   N_ij   = k_i' diag(exp(G_i - G_j)) k_j, i > j      M = diag(beta) N      Akk = (I + M)^-1
//   Aqk_ij = scale q_i' diag(exp(G_i - G_j)) k_j, i >= j
//   w = Akk diag(beta) (k exp(G))    u = Akk diag(beta) v    qg = q exp(G)    kg = k exp(G_C - G)
//   v_new = u - w S0                 S_C = diag(exp G_C) S0 + kg' v_new
//   o = scale qg S0 + Aqk v_new
//
// Forward:  gate_cumsum -> intra -> recompute_w_u -> propagate_states -> output_o
// Backward: dAv -> dhu -> wy_dqkg -> backward_intra -> gate_backward
//
// Shapes: q, k [B,T,H,K] with H dividing HV; everything else has HV heads. Aqk, Akk and their gradients are [B,T,HV,C]:
// entry (t, j) belongs to token t and row j of t's chunk; columns of rows beyond the end of a sequence are 0. States
// before chunks, h, and gradients of states after chunks, dh, are [B,NT,HV,K,V], NT = ceil(T/C); with cu_seqlens
// [1,NT,HV,K,V], sequence after sequence. initial_state, final_state, dht, dh0 are [N,HV,K,V], N = B without
// cu_seqlens.
//
// Tensors of one call have one dtype, f32 or f64, and one device. All functions throw Error that names the function,
// the argument, what was expected and what came. The forward stages are differentiable.
//
// The decay comes as g [B,T,HV,K], as g_cumsum (kda::gate_cumsum, natural logarithm), or both. g is used where it is
// given: exponents are then sums of parts that are never positive and never subtracted. From g_cumsum alone g is its
// difference from row to row, which has lost the digits of weak decay behind strong decay.
#pragma once

#include <optional>

#include "core/tensor.h"

namespace deltatape::kda::stages {

/// What all stages of a call have in common.
struct StageOptions {
  std::optional<double> scale = std::nullopt;  // default K^-1/2
  int64_t chunk_size = 64;                     // C: 16, 32 or 64
  Tensor cu_seqlens = {};                      // i64 or i32 [N+1], optional, with B = 1
};

struct IntraInputs {
  Tensor q;              // [B,T,H,K]
  Tensor k;              // [B,T,H,K]
  Tensor g = {};         // [B,T,HV,K], see above
  Tensor g_cumsum = {};  // [B,T,HV,K], see above
  Tensor beta;           // [B,T,HV]
};
struct Intra {
  Tensor Aqk;  // [B,T,HV,C], with scale, diagonal included
  Tensor Akk;  // [B,T,HV,C], (I + M)^-1, unit lower triangular
};
/// The two matrices of every chunk.
Intra intra(const IntraInputs& inputs, const StageOptions& options = {});

struct RecomputeInputs {
  Tensor q = {};         // [B,T,H,K], optional: without it there is no qg
  Tensor k;              // [B,T,H,K]
  Tensor v;              // [B,T,HV,V]
  Tensor g = {};         // [B,T,HV,K], see above
  Tensor g_cumsum = {};  // [B,T,HV,K], see above
  Tensor beta;           // [B,T,HV]
  Tensor Akk;            // [B,T,HV,C]
};
struct Recomputed {
  Tensor w;   // [B,T,HV,K], what of the state a chunk takes away
  Tensor u;   // [B,T,HV,V], what it would write to a zero state
  Tensor qg;  // [B,T,HV,K], q exp(G), without scale; undefined without q
  Tensor kg;  // [B,T,HV,K], k exp(G_C - G)
};
/// The operands of the state loop, from Akk.
Recomputed recompute_w_u(const RecomputeInputs& inputs, const StageOptions& options = {});

struct PropagateInputs {
  Tensor kg;                  // [B,T,HV,K]
  Tensor w;                   // [B,T,HV,K]
  Tensor u;                   // [B,T,HV,V]
  Tensor g = {};              // [B,T,HV,K], see above
  Tensor g_cumsum = {};       // [B,T,HV,K], see above
  Tensor initial_state = {};  // [N,HV,K,V], optional: zeros
};
struct Propagated {
  Tensor h;            // [B,NT,HV,K,V], the state before every chunk
  Tensor v_new;        // [B,T,HV,V], what every token writes
  Tensor final_state;  // [N,HV,K,V]
};
/// The state from chunk to chunk, the only sequential stage.
Propagated propagate_states(const PropagateInputs& inputs, const StageOptions& options = {});

struct OutputInputs {
  Tensor qg;     // [B,T,HV,K]
  Tensor Aqk;    // [B,T,HV,C]
  Tensor h;      // [B,NT,HV,K,V]
  Tensor v_new;  // [B,T,HV,V]
};
/// o [B,T,HV,V].
Tensor output_o(const OutputInputs& inputs, const StageOptions& options = {});

struct AvInputs {
  Tensor d_o;    // [B,T,HV,V], the gradient of o
  Tensor v_new;  // [B,T,HV,V]
  Tensor Aqk;    // [B,T,HV,C]
};
struct AvGradients {
  Tensor dAqk;  // [B,T,HV,C], tril(do v_new'), the gradient of Aqk itself: scale is applied by backward_intra
  Tensor dv;    // [B,T,HV,V], Aqk' do: the part of the gradient of v_new that comes through the output
};
/// The adjoint of Aqk v_new.
AvGradients dAv(const AvInputs& inputs, const StageOptions& options = {});

struct StateInputs {
  Tensor qg;             // [B,T,HV,K]
  Tensor kg;             // [B,T,HV,K]
  Tensor w;              // [B,T,HV,K]
  Tensor g = {};         // [B,T,HV,K], see above
  Tensor g_cumsum = {};  // [B,T,HV,K], see above
  Tensor d_o;            // [B,T,HV,V]
  Tensor dv;             // [B,T,HV,V], of dAv
  Tensor dht = {};       // [N,HV,K,V], the gradient of final_state, optional: zeros
};
struct StateGradients {
  Tensor dh;   // [B,NT,HV,K,V], the gradient of the state after every chunk, from everything behind the chunk
  Tensor dh0;  // [N,HV,K,V], the gradient of initial_state
  Tensor dv;   // [B,T,HV,V], the whole gradient of v_new: that of dAv and kg dh
};
/// The adjoint of the state loop.
StateGradients dhu(const StateInputs& inputs, const StageOptions& options = {});

struct WyInputs {
  Tensor q;              // [B,T,H,K]
  Tensor k;              // [B,T,H,K]
  Tensor v;              // [B,T,HV,V]
  Tensor g = {};         // [B,T,HV,K], see above
  Tensor g_cumsum = {};  // [B,T,HV,K], see above
  Tensor beta;           // [B,T,HV]
  Tensor Akk;            // [B,T,HV,C]
  Tensor h;              // [B,NT,HV,K,V]
  Tensor v_new;          // [B,T,HV,V]
  Tensor d_o;            // [B,T,HV,V]
  Tensor dh;             // [B,NT,HV,K,V], of dhu
  Tensor dv;             // [B,T,HV,V], of dhu
};
/// With L = Akk' dv and Z = L S0'. All but dv and dAkk are parts: what does not come through the pairs of tokens in
/// intra. Gradients of q and k are still one per value head.
struct WyGradients {
  Tensor dq;     // [B,T,HV,K], scale exp(G) (do S0')
  Tensor dk;     // [B,T,HV,K], -beta exp(G) Z + exp(G_C - G) (v_new dh')
  Tensor dv;     // [B,T,HV,V], beta L: the gradient of v, complete
  Tensor dbeta;  // [B,T,HV], L . v - Z . (k exp(G))
  Tensor dg;     // [B,T,HV,K], the gradient of g at every step (not of its sum) through exp(G), exp(G_C - G), exp(G_C)
  Tensor dAkk;   // [B,T,HV,C], the gradient of M: -stril(Akk' dA Akk') with dA that of Akk, which is -stril(L v_new')
};
/// The adjoint of everything between a chunk's inputs and the state loop except for the pairs of tokens.
WyGradients wy_dqkg(const WyInputs& inputs, const StageOptions& options = {});

struct BackwardIntraInputs {
  Tensor q;              // [B,T,H,K]
  Tensor k;              // [B,T,H,K]
  Tensor g = {};         // [B,T,HV,K], see above
  Tensor g_cumsum = {};  // [B,T,HV,K], see above
  Tensor beta;           // [B,T,HV]
  Tensor dAqk;           // [B,T,HV,C], of dAv; above the diagonal it is not read
  Tensor dAkk;           // [B,T,HV,C], of wy_dqkg; on and above the diagonal it is not read
  Tensor dq = {};        // [B,T,HV,K], of wy_dqkg, as the next three; each optional: zeros
  Tensor dk = {};        // [B,T,HV,K]
  Tensor dbeta = {};     // [B,T,HV]
  Tensor dg = {};        // [B,T,HV,K]
};
struct BackwardIntraGradients {
  Tensor dq;     // [B,T,H,K], complete, summed over the value heads of a group
  Tensor dk;     // [B,T,H,K], likewise
  Tensor dbeta;  // [B,T,HV], complete
  Tensor dg;     // [B,T,HV,K], complete: the gradient of the log decay g; kda::gate_backward takes it on
};
/// The adjoint of the pairs of tokens in intra, added to the parts of wy_dqkg.
BackwardIntraGradients backward_intra(const BackwardIntraInputs& inputs, const StageOptions& options = {});

}  // namespace deltatape::kda::stages
