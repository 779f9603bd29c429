// The one interface between ops and devices: the kernels a device implements, grouped by family.
//
// Kernels fill `out`, a tensor that the op has created with the right shape, dtype and device; `out` never overlaps an
// input unless stated. Ops have checked every argument, so kernels check nothing. Inputs may have any strides (stride
// 0 for broadcast ones included); an input has out's shape unless stated. Arithmetic on bf16 and f16 is done in f32,
// sums of f32 are accumulated in f32 over short blocks that are added pairwise or in f64. An empty tensor is no error.
// Results are deterministic: the same inputs give the same bits on the same device and thread count.
#pragma once

#include <cstdint>
#include <span>

#include "backends/elementwise_kinds.h"
#include "backends/kda.h"
#include "core/generator.h"
#include "core/tensor.h"

namespace deltatape {

enum class ReduceKind : uint8_t { sum, prod, max, min };

/// The numbers of one AdamW step (nn/optimizer.h): p = decay p - rate m / (sqrt(v) / root_correction2 + eps).
struct AdamWStep {
  double beta1;
  double beta2;
  double eps;
  double rate;              // learning rate / (1 - beta1^k)
  double root_correction2;  // sqrt(1 - beta2^k)
};

/// What one parameter brings to it. One shape; the gradient has the parameter's dtype, m and v are f32, or f64 beside
/// f64.
struct AdamWUpdate {
  Tensor gradient;
  Tensor parameter;
  Tensor m;
  Tensor v;
  double decay;
};

class Backend {
 public:
  virtual ~Backend() = default;

  // Memory.
  /// out[...] = value, converted to out's dtype. `out` may have any strides.
  virtual void fill(double value, const Tensor& out) const = 0;
  /// out[...] = in[...], converted to out's dtype (bool: != 0). Both may have any strides.
  virtual void copy(const Tensor& in, const Tensor& out) const = 0;
  /// out[i] = start + i * step along a contiguous `out` of rank 1.
  virtual void arange(double start, double step, const Tensor& out) const = 0;

  // Elementwise. Operands have one dtype; `out` has it too, except for `compare` (bool).
  virtual void unary(UnaryKind kind, const Tensor& x, const Tensor& out) const = 0;
  virtual void binary(BinaryKind kind, const Tensor& a, const Tensor& b, const Tensor& out) const = 0;
  /// out = kind(x, scalar), or kind(scalar, x) when `scalar_first`. `out` may be x itself.
  virtual void binary_scalar(BinaryKind kind, const Tensor& x, double scalar, bool scalar_first,
                             const Tensor& out) const = 0;
  virtual void compare(CompareKind kind, const Tensor& a, const Tensor& b, const Tensor& out) const = 0;
  virtual void compare_scalar(CompareKind kind, const Tensor& a, double scalar, const Tensor& out) const = 0;
  /// out = condition ? a : b; `condition` is bool.
  virtual void where(const Tensor& condition, const Tensor& a, const Tensor& b, const Tensor& out) const = 0;
  /// out = low <= x <= high ? x : the nearer bound. NaN stays NaN.
  virtual void clamp(const Tensor& x, double low, double high, const Tensor& out) const = 0;
  /// out += scale * x, in place on `out`; same dtype, `out` dense.
  virtual void add_scaled(const Tensor& x, double scale, const Tensor& out) const = 0;

  // Reductions. `out` has x's rank; a size of 1 where x has more marks a reduced dimension. NaN wins max and min.
  virtual void reduce(ReduceKind kind, const Tensor& x, const Tensor& out) const = 0;
  /// Index (i64) of the first largest (or smallest) entry along `dim`; out has size 1 there. The first NaN wins.
  virtual void arg_reduce(bool largest, const Tensor& x, int dim, const Tensor& out) const = 0;
  /// Inclusive cumulative sum along `dim`, from the end when `reverse`.
  virtual void cumsum(const Tensor& x, int dim, bool reverse, const Tensor& out) const = 0;
  /// Inclusive cumulative sum along the second dimension of x [B, T, ..], which restarts at every entry of `starts`
  /// (i64 [N + 1]: first 0, last T); with `reverse` from the ends of these chunks. f32 or f64; all dense.
  virtual void chunk_cumsum(const Tensor& x, const Tensor& starts, bool reverse, const Tensor& out) const = 0;
  /// softmax, or its logarithm, over the last dimension. `out` is dense.
  virtual void softmax(const Tensor& x, bool log, const Tensor& out) const = 0;
  /// Gradient of softmax (or log_softmax) from its output y and the gradient dy, over the last dimension.
  virtual void softmax_backward(const Tensor& y, const Tensor& dy, bool log, const Tensor& out) const = 0;
  /// terms[n] = -log_softmax(logits[n])[target[n]], with each row's largest element and sum of exp(logits - largest):
  /// logits [N, C], the others [N] and dense. target i64 in [0, C); the results are f32, f64 for f64 logits.
  virtual void cross_entropy(const Tensor& logits, const Tensor& target, const Tensor& terms, const Tensor& largest,
                             const Tensor& sum) const = 0;
  /// out[n] = weight[n] (softmax(logits[n]) - one_hot(target[n])), 0 where weight[n] is. `largest` and `sum` as
  /// cross_entropy gives them; out [N, C] dense, of logits' dtype.
  virtual void cross_entropy_backward(const Tensor& logits, const Tensor& target, const Tensor& largest,
                                      const Tensor& sum, const Tensor& weight, const Tensor& out) const = 0;
  /// y = x * rstd * weight with rstd = 1 / sqrt(mean(x^2) + eps) (sum instead of mean when `sum`), over the last
  /// dimension. `weight` [D] may be undefined (1). rstd [..., 1] is f32, f64 for f64 input.
  virtual void rms_norm(const Tensor& x, const Tensor& weight, double eps, bool sum, const Tensor& out,
                        const Tensor& rstd) const = 0;
  /// Gradients of rms_norm with respect to x and weight from dy and rstd; either result may be undefined (not wanted).
  /// x, dy and the results are dense.
  virtual void rms_norm_backward(const Tensor& x, const Tensor& weight, const Tensor& rstd, const Tensor& dy, bool sum,
                                 const Tensor& dx, const Tensor& dweight) const = 0;
  /// rms_norm (with the mean) times sigmoid(gate), or times gate sigmoid(gate) when `silu`; gate like x.
  virtual void gated_rms_norm(const Tensor& x, const Tensor& weight, const Tensor& gate, bool silu, double eps,
                              const Tensor& out, const Tensor& rstd) const = 0;
  /// Its gradients, as for rms_norm_backward; gate is dense too.
  virtual void gated_rms_norm_backward(const Tensor& x, const Tensor& weight, const Tensor& gate, bool silu,
                                       const Tensor& rstd, const Tensor& dy, const Tensor& dx, const Tensor& dweight,
                                       const Tensor& dgate) const = 0;
  /// out = a sigmoid(a) b, elementwise.
  virtual void swiglu(const Tensor& a, const Tensor& b, const Tensor& out) const = 0;
  /// Its gradients with respect to a and b; either may be undefined (not wanted). All dense.
  virtual void swiglu_backward(const Tensor& a, const Tensor& b, const Tensor& dy, const Tensor& da,
                               const Tensor& db) const = 0;

  // Products.
  /// out[b] = a[b] * b[b]: a [B, M, K], b [B, K, N], out [B, M, N] dense; batch strides may be 0; rows or columns of a
  /// and b may be strided either way (transposed views are not copied where the last two strides allow it).
  virtual void matmul(const Tensor& a, const Tensor& b, const Tensor& out) const = 0;
  /// Solves A X = B: A [B, M, M] triangular (only that triangle is read; ones on the diagonal when `unit`), B and out
  /// [B, M, N]; out dense.
  virtual void solve_triangular(const Tensor& a, const Tensor& b, bool lower, bool unit, const Tensor& out) const = 0;
  /// out = x where column - row <= diagonal (`lower`) or >= diagonal (not `lower`), else 0; last two dimensions.
  virtual void triangle(const Tensor& x, bool lower, int64_t diagonal, const Tensor& out) const = 0;

  // Indexing. Indices are i64 or i32, within range; the kernel throws Error naming `gather`, ... on one that is not.
  /// out[.., i, ..] = x[.., index[.., i, ..], ..] along `dim`; index has out's shape.
  virtual void gather(const Tensor& x, int dim, const Tensor& index, const Tensor& out) const = 0;
  /// out[.., index[.., i, ..], ..] += src[.., i, ..], in place on dense `out`, in a fixed order; index has src's shape.
  virtual void scatter_add(const Tensor& src, int dim, const Tensor& index, const Tensor& out) const = 0;
  /// out[.., i, ..] = x[.., index[i], ..] along `dim`; index has rank 1.
  virtual void index_select(const Tensor& x, int dim, const Tensor& index, const Tensor& out) const = 0;
  /// out[.., index[i], ..] += src[.., i, ..], in place on dense `out`, in a fixed order; index has rank 1.
  virtual void index_add(const Tensor& src, int dim, const Tensor& index, const Tensor& out) const = 0;
  /// The k largest along the last dimension, largest first (ties: lower index first), and their indices (i64).
  virtual void topk(const Tensor& x, int64_t k, const Tensor& values, const Tensor& indices) const = 0;

  // Convolution.
  /// Depthwise causal convolution: out[b,t,d] = bias[d] + sum_j weight[d,j] x[b,t-W+1+j,d], terms from before the
  /// start of t's segment left out. x, out [B,T,D]; weight [D,W]; bias [D] or undefined; starts i64 [B,T] (the first
  /// time index of each position's segment) or undefined (0).
  virtual void causal_conv1d(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& starts,
                             const Tensor& out) const = 0;
  /// Gradients of causal_conv1d with respect to x and weight; either result may be undefined (not wanted).
  virtual void causal_conv1d_backward(const Tensor& x, const Tensor& weight, const Tensor& starts, const Tensor& dy,
                                      const Tensor& dx, const Tensor& dweight) const = 0;

  // Kimi Delta Attention, fused (backends/kda.h).
  /// The log decay of kda::Gate (not none) from logits g [B,T,HV,K], A_log [HV] (or undefined) and dt_bias [HV*K] (or
  /// undefined). g and out are dense.
  virtual void kda_gate(kda::Gate gate, double lower_bound, const Tensor& g, const Tensor& A_log, const Tensor& dt_bias,
                        const Tensor& out) const = 0;
  /// Its gradients from dy, dense as g is and of any dtype; each may be undefined (not wanted).
  virtual void kda_gate_backward(kda::Gate gate, double lower_bound, const Tensor& dy, const Tensor& g,
                                 const Tensor& A_log, const Tensor& dt_bias, const Tensor& dg, const Tensor& dA_log,
                                 const Tensor& ddt_bias) const = 0;
  /// What kda_forward and kda_backward do for a problem whose q, k, v, g and beta have this dtype. Throws Error for
  /// sizes that the device has no kernel for.
  [[nodiscard]] virtual kda::KernelPlan kda_plan(const kda::KernelProblem& problem, DType dtype,
                                                 Device device) const = 0;
  virtual void kda_forward(const kda::KernelProblem& problem, const kda::KernelInputs& inputs,
                           const kda::KernelOutputs& outputs) const = 0;
  virtual void kda_backward(const kda::KernelProblem& problem, const kda::KernelInputs& inputs,
                            const kda::KernelUpstream& upstream, const kda::KernelGradients& gradients) const = 0;
  /// B = N sequences of T = m tokens each; `problem.sequences` and `inputs.initial_state` are not looked at. The slots
  /// are in range, and no two sequences share one.
  virtual void kda_decode(const kda::KernelProblem& problem, const kda::KernelInputs& inputs,
                          const kda::KernelDecode& decode) const = 0;

  // Training. All tensors dense and floating point; those of a list on one device, any dtypes, any number.
  /// out (f64, one element) = the sum of all squares, accumulated in f64.
  virtual void sum_of_squares(std::span<const Tensor> xs, const Tensor& out) const = 0;
  /// x *= factor for every x, in place.
  virtual void scale(std::span<const Tensor> xs, double factor) const = 0;
  /// Updates parameters and moments in place: m = beta1 m + (1 - beta1) g, v = beta2 v + (1 - beta2) g^2, and the
  /// parameter from them.
  virtual void adamw(std::span<const AdamWUpdate> updates, const AdamWStep& step) const = 0;

  // Random numbers: element i of `out` is a function of (seed, offset + i) alone; see core/generator.h.
  /// Uniform in [0, 1).
  virtual void uniform(PhiloxState state, const Tensor& out) const = 0;
  /// Standard normal.
  virtual void normal(PhiloxState state, const Tensor& out) const = 0;
  /// Integers in [low, high).
  virtual void random_integers(PhiloxState state, int64_t low, int64_t high, const Tensor& out) const = 0;
};

/// The one of CUDA devices. Throws Error in a build without CUDA.
const Backend& cuda_backend();
/// The backend of a device.
const Backend& backend_of(Device device);
/// The backend of a tensor's device.
inline const Backend& backend_of(const Tensor& tensor) { return backend_of(tensor.device()); }

}  // namespace deltatape
