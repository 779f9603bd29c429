// What every implementation of Kimi Delta Attention takes and gives.
//
// Recurrence, per value head (S [K,V], S_0 = initial_state or 0):
//   S~ = diag(exp g_t) S_{t-1};  S_t = S~ + beta_t k_t (v_t - S~' k_t)';  o_t = scale S_t' q_t
// Source: Kimi Team, "Kimi Linear: An Expressive, Efficient Attention Architecture", 2025.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "backends/kda.h"
#include "core/tensor.h"

namespace deltatape::kda {

/// The tensors of one call. Floating-point tensors share one dtype, except A_log, dt_bias and initial_state, which may
/// be f32 beside 16-bit ones.
struct Inputs {
  Tensor q;              // [B,T,H,K]
  Tensor k;              // [B,T,H,K]
  Tensor v;              // [B,T,HV,V], HV a multiple of H; value head hv uses q/k head hv / (HV / H)
  Tensor g;              // [B,T,HV,K] log decay (natural log), or gate logits
  Tensor beta;           // [B,T,HV] write strength, or its logits
  Tensor A_log;          // [HV]; standard gate (required) and lower-bound gate (optional)
  Tensor dt_bias;        // [HV*K], optional, with a gate
  Tensor initial_state;  // [N,HV,K,V] ([N,HV,V,K] with state_v_first), optional: zeros
  Tensor cu_seqlens;     // i64 or i32 [N+1], optional: B = 1, sequence n is cu_seqlens[n] .. cu_seqlens[n+1]
  Tensor segment_ids;    // i64 or i32 [B,T], optional, not with cu_seqlens: a segment starts wherever adjacent ids of a
                         // row differ. N = B: the initial state is the first segment's, the final state the last one's
};

struct Options {
  std::optional<double> scale = std::nullopt;  // default K^-1/2
  Gate gate = Gate::none;
  double lower_bound = -5.0;      // with Gate::lower_bound: < 0
  bool use_qk_l2norm = false;     // q and k become x / sqrt(x.x + 1e-6)
  bool use_beta_sigmoid = false;  // beta is a logit
  bool allow_neg_eigval = false;  // beta = 2 sigmoid(logit); needs use_beta_sigmoid
  bool safe_gate = false;  // log decays are expected in [-5, 0]: permits a faster form of the decay inside 16 rows.
                           // With Gate::lower_bound lower_bound must be in [-5, 0); a given g is looked at, block
                           // by block, and where it is outside, the general form runs
  bool output_final_state = false;
  bool output_h = false;            // the state before every chunk of chunk_size tokens
  bool save_intermediates = false;  // fused kernels: keep a state every 64 tokens for backward, or compute them again
  bool state_v_first = false;       // states are [N,HV,V,K]
  int64_t chunk_size = 64;          // 16, 32 or 64; changes results by rounding only, and the number of states in h
  int64_t workspace_limit = kWorkspaceLimit;  // fused kernels on CUDA: bytes of memory that a call may use for itself
};

/// `final_state` and `h` are undefined unless asked for.
struct Output {
  Tensor o = {};            // [B,T,HV,V]
  Tensor final_state = {};  // as initial_state; N = B without cu_seqlens
  /// [B,NT,HV,K,V] ([..,V,K] with state_v_first), NT = ceil(T / chunk_size); with cu_seqlens or segment_ids
  /// [1,NT,HV,K,V], the chunks of all sequences (rows) one after another. In the dtype that is computed in; carries no
  /// gradient.
  Tensor h = {};
  std::string_view kernel = {};  // what ran: the function's name
};

}  // namespace deltatape::kda
