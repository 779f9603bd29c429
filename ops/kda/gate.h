// The elementwise parts of KDA: log decay from logits and its sums, write strength from logits.
#pragma once

#include "ops/kda/options.h"

namespace deltatape::kda {

/// Log decay [B,T,HV,K] from gate logits g of that shape, A_log [HV] and dt_bias [HV*K] (see Gate). Differentiable in
/// all three; Gate::none gives g itself. 16 bits are computed with in f32, and the result has g's dtype. Throws Error
/// for Gate::standard without A_log, A_log or dt_bias with Gate::none, a lower_bound that is not below 0, and shapes
/// that do not fit.
Tensor apply_gate(Gate gate, const Tensor& g, const Tensor& A_log, const Tensor& dt_bias, double lower_bound);

/// Gradients of the arguments of apply_gate, each like its argument; undefined where that is.
struct GateGradients {
  Tensor dg;
  Tensor dA_log;
  Tensor ddt_bias;
};

/// The adjoint of apply_gate by explicit formulas: from dy [B,T,HV,K], the gradient of the log decay, and the arguments
/// of apply_gate. With z = g + dt_bias, a = exp(A_log) and s the sigmoid, dg is -dy a s(z) for the standard gate and
/// dy lower_bound a s(a z) s(-a z) for the other one, which keeps its digits where the sigmoid is 0 or 1. Computed in
/// f64 for f64, else in f32; the sums are taken before anything is rounded to 16 bits. One kernel, or composed of ops
/// while gradients are recorded. Throws Error as apply_gate, and for dy of another shape than g.
GateGradients gate_backward(Gate gate, const Tensor& dy, const Tensor& g, const Tensor& A_log, const Tensor& dt_bias,
                            double lower_bound);

/// Sums of x [B,T,HV,K] along the tokens of a chunk, inclusive: from the start of the chunk, or with `reverse`, which
/// is the adjoint, up to its end. Chunks have chunk_size tokens (16, 32 or 64; the last one of a sequence may be
/// shorter) and restart at every sequence of cu_seqlens (i64 or i32 [N+1], optional, with B = 1). 16-bit x is summed
/// and returned in f32. Differentiable. Throws Error for another rank, dtype, chunk_size or cu_seqlens.
Tensor chunk_cumsum(const Tensor& x, int64_t chunk_size, const Tensor& cu_seqlens = Tensor(), bool reverse = false);

/// What the chunk form calls G: chunk_cumsum of apply_gate, in the natural logarithm. Arguments and errors as theirs.
/// Its adjoint is gate_backward of chunk_cumsum in the other direction.
Tensor gate_cumsum(Gate gate, const Tensor& g, const Tensor& A_log, const Tensor& dt_bias, double lower_bound,
                   int64_t chunk_size, const Tensor& cu_seqlens = Tensor(), bool reverse = false);

/// beta in (0,1), or (0,2) with `allow_neg_eigval`, from its logits of any shape and floating-point dtype, which it
/// keeps. Differentiable. Throws Error for an undefined tensor.
Tensor beta_from_logits(const Tensor& logits, bool allow_neg_eigval);

}  // namespace deltatape::kda
