// The CPU backend. Each family of kernels is defined in a file of its own beside this header.
#pragma once

#include "backends/backend.h"

namespace deltatape::cpu {

class CpuBackend final : public Backend {
 public:
  void fill(double value, const Tensor& out) const override;
  void copy(const Tensor& in, const Tensor& out) const override;
  void arange(double start, double step, const Tensor& out) const override;
  void unary(UnaryKind kind, const Tensor& x, const Tensor& out) const override;
  void binary(BinaryKind kind, const Tensor& a, const Tensor& b, const Tensor& out) const override;
  void binary_scalar(BinaryKind kind, const Tensor& x, double scalar, bool scalar_first,
                     const Tensor& out) const override;
  void compare(CompareKind kind, const Tensor& a, const Tensor& b, const Tensor& out) const override;
  void compare_scalar(CompareKind kind, const Tensor& a, double scalar, const Tensor& out) const override;
  void where(const Tensor& condition, const Tensor& a, const Tensor& b, const Tensor& out) const override;
  void clamp(const Tensor& x, double low, double high, const Tensor& out) const override;
  void add_scaled(const Tensor& x, double scale, const Tensor& out) const override;
  void reduce(ReduceKind kind, const Tensor& x, const Tensor& out) const override;
  void arg_reduce(bool largest, const Tensor& x, int dim, const Tensor& out) const override;
  void cumsum(const Tensor& x, int dim, bool reverse, const Tensor& out) const override;
  void chunk_cumsum(const Tensor& x, const Tensor& starts, bool reverse, const Tensor& out) const override;
  void softmax(const Tensor& x, bool log, const Tensor& out) const override;
  void softmax_backward(const Tensor& y, const Tensor& dy, bool log, const Tensor& out) const override;
  void cross_entropy(const Tensor& logits, const Tensor& target, const Tensor& terms, const Tensor& largest,
                     const Tensor& sum) const override;
  void cross_entropy_backward(const Tensor& logits, const Tensor& target, const Tensor& largest, const Tensor& sum,
                              const Tensor& weight, const Tensor& out) const override;
  void rms_norm(const Tensor& x, const Tensor& weight, double eps, bool sum, const Tensor& out,
                const Tensor& rstd) const override;
  void rms_norm_backward(const Tensor& x, const Tensor& weight, const Tensor& rstd, const Tensor& dy, bool sum,
                         const Tensor& dx, const Tensor& dweight) const override;
  void gated_rms_norm(const Tensor& x, const Tensor& weight, const Tensor& gate, bool silu, double eps,
                      const Tensor& out, const Tensor& rstd) const override;
  void gated_rms_norm_backward(const Tensor& x, const Tensor& weight, const Tensor& gate, bool silu, const Tensor& rstd,
                               const Tensor& dy, const Tensor& dx, const Tensor& dweight,
                               const Tensor& dgate) const override;
  void swiglu(const Tensor& a, const Tensor& b, const Tensor& out) const override;
  void swiglu_backward(const Tensor& a, const Tensor& b, const Tensor& dy, const Tensor& da,
                       const Tensor& db) const override;
  void matmul(const Tensor& a, const Tensor& b, const Tensor& out) const override;
  void solve_triangular(const Tensor& a, const Tensor& b, bool lower, bool unit, const Tensor& out) const override;
  void triangle(const Tensor& x, bool lower, int64_t diagonal, const Tensor& out) const override;
  void gather(const Tensor& x, int dim, const Tensor& index, const Tensor& out) const override;
  void scatter_add(const Tensor& src, int dim, const Tensor& index, const Tensor& out) const override;
  void index_select(const Tensor& x, int dim, const Tensor& index, const Tensor& out) const override;
  void index_add(const Tensor& src, int dim, const Tensor& index, const Tensor& out) const override;
  void topk(const Tensor& x, int64_t k, const Tensor& values, const Tensor& indices) const override;
  void causal_conv1d(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& starts,
                     const Tensor& out) const override;
  void causal_conv1d_backward(const Tensor& x, const Tensor& weight, const Tensor& starts, const Tensor& dy,
                              const Tensor& dx, const Tensor& dweight) const override;
  void kda_gate(kda::Gate gate, double lower_bound, const Tensor& g, const Tensor& A_log, const Tensor& dt_bias,
                const Tensor& out) const override;
  void kda_gate_backward(kda::Gate gate, double lower_bound, const Tensor& dy, const Tensor& g, const Tensor& A_log,
                         const Tensor& dt_bias, const Tensor& dg, const Tensor& dA_log,
                         const Tensor& ddt_bias) const override;
  [[nodiscard]] kda::KernelPlan kda_plan(const kda::KernelProblem& problem, DType dtype, Device device) const override;
  void kda_forward(const kda::KernelProblem& problem, const kda::KernelInputs& inputs,
                   const kda::KernelOutputs& outputs) const override;
  void kda_backward(const kda::KernelProblem& problem, const kda::KernelInputs& inputs,
                    const kda::KernelUpstream& upstream, const kda::KernelGradients& gradients) const override;
  void kda_decode(const kda::KernelProblem& problem, const kda::KernelInputs& inputs,
                  const kda::KernelDecode& decode) const override;
  void sum_of_squares(std::span<const Tensor> xs, const Tensor& out) const override;
  void scale(std::span<const Tensor> xs, double factor) const override;
  void adamw(std::span<const AdamWUpdate> updates, const AdamWStep& step) const override;
  void uniform(PhiloxState state, const Tensor& out) const override;
  void normal(PhiloxState state, const Tensor& out) const override;
  void random_integers(PhiloxState state, int64_t low, int64_t high, const Tensor& out) const override;
};

}  // namespace deltatape::cpu
