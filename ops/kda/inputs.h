// The one place where the arguments of every KDA implementation are checked, and the elementwise parts that all of them
// share.
#pragma once

#include <array>
#include <string_view>
#include <vector>

#include "ops/kda/options.h"

namespace deltatape::kda {

/// The sizes and defaults of a call that passed the checks.
struct Problem {
  int64_t B = 0;
  int64_t T = 0;
  int64_t H = 0;   // heads of q and k
  int64_t HV = 0;  // heads of v, g, beta and the states
  int64_t K = 0;
  int64_t V = 0;
  int64_t N = 0;                // states: sequences with cu_seqlens, else B
  bool varlen = false;          // cu_seqlens was given
  bool segmented = false;       // segment_ids was given
  std::vector<int64_t> bounds;  // sequence n is [bounds[n], bounds[n + 1]); {0, T} without cu_seqlens
  /// All tokens that share a state, row after row; empty sequences included.
  std::vector<Sequence> sequences;
  double scale = 1.0;
  DType compute_dtype = DType::f32;  // f64 for f64 inputs, else f32
};

/// Checks the ranges and combinations of the options alone. Throws Error as check_inputs.
void check_options(std::string_view function, const Options& options);

/// Checks rank, shape, dtype and device of every argument, and the ranges and combinations of the options. Throws Error
/// that starts with `function` and names the argument, what was expected and what came.
Problem check_inputs(std::string_view function, const Inputs& inputs, const Options& options);

/// The differentiable inputs in the order in which the tape sees them; some may be undefined.
inline constexpr size_t kDifferentiable = 8;
template <class AnyInputs>
auto differentiable(AnyInputs& in) {
  return std::array{&in.q, &in.k, &in.v, &in.g, &in.beta, &in.A_log, &in.dt_bias, &in.initial_state};
}

/// What the fused kernels take of a checked call.
KernelProblem kernel_problem(const Problem& problem, const Options& options, Form form);

/// The number of blocks of `steps` tokens over all sequences.
int64_t count_blocks(const std::vector<Sequence>& sequences, int64_t steps);
/// The shape of Output::h.
Shape h_shape(const Problem& problem, const Options& options);

/// [B,T,H,D] as [B,T,HV,D] with every head repeated, so that value head hv finds its head at hv.
Tensor repeat_heads(const Tensor& x, int64_t HV);

/// The operands of the recurrence: after the norm, the gate and the sigmoid, in compute_dtype.
struct Operands {
  Tensor q;              // [B,T,HV,K], times scale
  Tensor k;              // [B,T,HV,K]
  Tensor v;              // [B,T,HV,V]
  Tensor g;              // [B,T,HV,K], log decay
  Tensor beta;           // [B,T,HV]
  Tensor initial_state;  // [N,HV,K,V]; undefined: zeros
};
Operands prepare(const Problem& problem, const Inputs& inputs, const Options& options);

/// The result in the caller's dtypes and layout: o like v, `final_state` [N,HV,K,V] like initial_state (compute_dtype
/// without one), `h` [..,NT,HV,K,V] detached; those that were not asked for are left out and may be undefined.
Output finish(const Inputs& inputs, const Options& options, const Tensor& o, const Tensor& final_state,
              const Tensor& h);

/// The result of a call without tokens: an empty o, and the initial state. On the tape both depend on all inputs, as
/// they do where there are tokens; gradients are zero but for that of the initial state.
Output finish_empty(const Problem& problem, const Inputs& inputs, const Options& options);

}  // namespace deltatape::kda
