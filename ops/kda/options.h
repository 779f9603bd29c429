// What every implementation of Kimi Delta Attention takes and gives.
//
// Recurrence, per value head (S [K,V], S_0 = initial_state or 0):
//   S~ = diag(exp g_t) S_{t-1};  S_t = S~ + beta_t k_t (v_t - S~' k_t)';  o_t = scale S_t' q_t
// Source: Kimi Team, "Kimi Linear: An Expressive, Efficient Attention Architecture", 2025.
#pragma once

#include <cstdint>
#include <optional>

#include "core/tensor.h"

namespace deltatape::kda {

enum class Gate : uint8_t {
  none,         // g is the log decay itself, g <= 0
  standard,     // g is a logit: log decay -exp(A_log) softplus(g + dt_bias)
  lower_bound,  // g is a logit: log decay lower_bound sigmoid(exp(A_log) (g + dt_bias)); without A_log exp(A_log) = 1
};

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
};

struct Options {
  std::optional<double> scale = std::nullopt;  // default K^-1/2
  Gate gate = Gate::none;
  double lower_bound = -5.0;      // with Gate::lower_bound: < 0
  bool use_qk_l2norm = false;     // q and k become x / sqrt(x.x + 1e-6)
  bool use_beta_sigmoid = false;  // beta is a logit
  bool allow_neg_eigval = false;  // beta = 2 sigmoid(logit); needs use_beta_sigmoid
  bool output_final_state = false;
  bool state_v_first = false;  // states are [N,HV,V,K]
  int64_t chunk_size = 64;     // 16, 32 or 64; changes results by rounding only
};

/// `final_state` is undefined unless asked for.
struct Output {
  Tensor o;            // [B,T,HV,V]
  Tensor final_state;  // as initial_state; N = B without cu_seqlens
};

}  // namespace deltatape::kda
