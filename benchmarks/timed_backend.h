// A backend that hands every call on to another one and keeps account of the time, kernel by kernel. A program that
// defines backend_of itself, to return such an object, profiles the library without the library knowing: see
// training_step.cpp.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <map>
#include <string_view>

#include "backends/backend.h"

namespace deltatape::bench {

/// Calls of one kind of kernel.
struct KernelTime {
  int64_t calls = 0;
  double seconds = 0.0;
};

/// For one thread: the account is not locked.
class TimedBackend final : public Backend {
 public:
  explicit TimedBackend(const Backend& kernels) : kernels_(kernels) {}

  /// By kind of kernel (`mul`, `sum`, `matmul`), since the last clear().
  [[nodiscard]] const std::map<std::string_view, KernelTime>& times() const { return times_; }
  void clear() { times_.clear(); }

  void fill(double value, const Tensor& out) const override {
    timed("fill", [&] { kernels_.fill(value, out); });
  }
  void copy(const Tensor& in, const Tensor& out) const override {
    timed("copy", [&] { kernels_.copy(in, out); });
  }
  void arange(double start, double step, const Tensor& out) const override {
    timed("arange", [&] { kernels_.arange(start, step, out); });
  }
  void unary(UnaryKind kind, const Tensor& x, const Tensor& out) const override {
    timed(kUnary[static_cast<size_t>(kind)], [&] { kernels_.unary(kind, x, out); });
  }
  void binary(BinaryKind kind, const Tensor& a, const Tensor& b, const Tensor& out) const override {
    timed(kBinary[static_cast<size_t>(kind)], [&] { kernels_.binary(kind, a, b, out); });
  }
  void binary_scalar(BinaryKind kind, const Tensor& x, double scalar, bool scalar_first,
                     const Tensor& out) const override {
    timed(kBinary[static_cast<size_t>(kind)], [&] { kernels_.binary_scalar(kind, x, scalar, scalar_first, out); });
  }
  void compare(CompareKind kind, const Tensor& a, const Tensor& b, const Tensor& out) const override {
    timed("compare", [&] { kernels_.compare(kind, a, b, out); });
  }
  void compare_scalar(CompareKind kind, const Tensor& a, double scalar, const Tensor& out) const override {
    timed("compare", [&] { kernels_.compare_scalar(kind, a, scalar, out); });
  }
  void where(const Tensor& condition, const Tensor& a, const Tensor& b, const Tensor& out) const override {
    timed("where", [&] { kernels_.where(condition, a, b, out); });
  }
  void clamp(const Tensor& x, double low, double high, const Tensor& out) const override {
    timed("clamp", [&] { kernels_.clamp(x, low, high, out); });
  }
  void add_scaled(const Tensor& x, double scale, const Tensor& out) const override {
    timed("add_scaled", [&] { kernels_.add_scaled(x, scale, out); });
  }
  void reduce(ReduceKind kind, const Tensor& x, const Tensor& out) const override {
    timed(kReduce[static_cast<size_t>(kind)], [&] { kernels_.reduce(kind, x, out); });
  }
  void arg_reduce(bool largest, const Tensor& x, int dim, const Tensor& out) const override {
    timed("arg_reduce", [&] { kernels_.arg_reduce(largest, x, dim, out); });
  }
  void cumsum(const Tensor& x, int dim, bool reverse, const Tensor& out) const override {
    timed("cumsum", [&] { kernels_.cumsum(x, dim, reverse, out); });
  }
  void chunk_cumsum(const Tensor& x, const Tensor& starts, bool reverse, const Tensor& out) const override {
    timed("chunk_cumsum", [&] { kernels_.chunk_cumsum(x, starts, reverse, out); });
  }
  void softmax(const Tensor& x, bool log, const Tensor& out) const override {
    timed("softmax", [&] { kernels_.softmax(x, log, out); });
  }
  void softmax_backward(const Tensor& y, const Tensor& dy, bool log, const Tensor& out) const override {
    timed("softmax_backward", [&] { kernels_.softmax_backward(y, dy, log, out); });
  }
  void cross_entropy(const Tensor& logits, const Tensor& target, const Tensor& terms, const Tensor& largest,
                     const Tensor& sum) const override {
    timed("cross_entropy", [&] { kernels_.cross_entropy(logits, target, terms, largest, sum); });
  }
  void cross_entropy_backward(const Tensor& logits, const Tensor& target, const Tensor& largest, const Tensor& sum,
                              const Tensor& weight, const Tensor& out) const override {
    timed("cross_entropy_backward",
          [&] { kernels_.cross_entropy_backward(logits, target, largest, sum, weight, out); });
  }
  void rms_norm(const Tensor& x, const Tensor& weight, double eps, bool sum, const Tensor& out,
                const Tensor& rstd) const override {
    timed("rms_norm", [&] { kernels_.rms_norm(x, weight, eps, sum, out, rstd); });
  }
  void rms_norm_backward(const Tensor& x, const Tensor& weight, const Tensor& rstd, const Tensor& dy, bool sum,
                         const Tensor& dx, const Tensor& dweight) const override {
    timed("rms_norm_backward", [&] { kernels_.rms_norm_backward(x, weight, rstd, dy, sum, dx, dweight); });
  }
  void gated_rms_norm(const Tensor& x, const Tensor& weight, const Tensor& gate, bool silu, double eps,
                      const Tensor& out, const Tensor& rstd) const override {
    timed("gated_rms_norm", [&] { kernels_.gated_rms_norm(x, weight, gate, silu, eps, out, rstd); });
  }
  void gated_rms_norm_backward(const Tensor& x, const Tensor& weight, const Tensor& gate, bool silu, const Tensor& rstd,
                               const Tensor& dy, const Tensor& dx, const Tensor& dweight,
                               const Tensor& dgate) const override {
    timed("gated_rms_norm_backward",
          [&] { kernels_.gated_rms_norm_backward(x, weight, gate, silu, rstd, dy, dx, dweight, dgate); });
  }
  void swiglu(const Tensor& a, const Tensor& b, const Tensor& out) const override {
    timed("swiglu", [&] { kernels_.swiglu(a, b, out); });
  }
  void swiglu_backward(const Tensor& a, const Tensor& b, const Tensor& dy, const Tensor& da,
                       const Tensor& db) const override {
    timed("swiglu_backward", [&] { kernels_.swiglu_backward(a, b, dy, da, db); });
  }
  void matmul(const Tensor& a, const Tensor& b, const Tensor& out) const override {
    timed("matmul", [&] { kernels_.matmul(a, b, out); });
  }
  void solve_triangular(const Tensor& a, const Tensor& b, bool lower, bool unit, const Tensor& out) const override {
    timed("solve_triangular", [&] { kernels_.solve_triangular(a, b, lower, unit, out); });
  }
  void triangle(const Tensor& x, bool lower, int64_t diagonal, const Tensor& out) const override {
    timed("triangle", [&] { kernels_.triangle(x, lower, diagonal, out); });
  }
  void gather(const Tensor& x, int dim, const Tensor& index, const Tensor& out) const override {
    timed("gather", [&] { kernels_.gather(x, dim, index, out); });
  }
  void scatter_add(const Tensor& src, int dim, const Tensor& index, const Tensor& out) const override {
    timed("scatter_add", [&] { kernels_.scatter_add(src, dim, index, out); });
  }
  void index_select(const Tensor& x, int dim, const Tensor& index, const Tensor& out) const override {
    timed("index_select", [&] { kernels_.index_select(x, dim, index, out); });
  }
  void index_add(const Tensor& src, int dim, const Tensor& index, const Tensor& out) const override {
    timed("index_add", [&] { kernels_.index_add(src, dim, index, out); });
  }
  void topk(const Tensor& x, int64_t k, const Tensor& values, const Tensor& indices) const override {
    timed("topk", [&] { kernels_.topk(x, k, values, indices); });
  }
  void causal_conv1d(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& starts,
                     const Tensor& out) const override {
    timed("causal_conv1d", [&] { kernels_.causal_conv1d(x, weight, bias, starts, out); });
  }
  void causal_conv1d_backward(const Tensor& x, const Tensor& weight, const Tensor& starts, const Tensor& dy,
                              const Tensor& dx, const Tensor& dweight) const override {
    timed("causal_conv1d_backward", [&] { kernels_.causal_conv1d_backward(x, weight, starts, dy, dx, dweight); });
  }
  void kda_gate(kda::Gate gate, double lower_bound, const Tensor& g, const Tensor& A_log, const Tensor& dt_bias,
                const Tensor& out) const override {
    timed("kda_gate", [&] { kernels_.kda_gate(gate, lower_bound, g, A_log, dt_bias, out); });
  }
  void kda_gate_backward(kda::Gate gate, double lower_bound, const Tensor& dy, const Tensor& g, const Tensor& A_log,
                         const Tensor& dt_bias, const Tensor& dg, const Tensor& dA_log,
                         const Tensor& ddt_bias) const override {
    timed("kda_gate_backward",
          [&] { kernels_.kda_gate_backward(gate, lower_bound, dy, g, A_log, dt_bias, dg, dA_log, ddt_bias); });
  }
  [[nodiscard]] kda::KernelPlan kda_plan(const kda::KernelProblem& problem, DType dtype, Device device) const override {
    return kernels_.kda_plan(problem, dtype, device);
  }
  void kda_forward(const kda::KernelProblem& problem, const kda::KernelInputs& inputs,
                   const kda::KernelOutputs& outputs) const override {
    timed("kda_forward", [&] { kernels_.kda_forward(problem, inputs, outputs); });
  }
  void kda_backward(const kda::KernelProblem& problem, const kda::KernelInputs& inputs,
                    const kda::KernelUpstream& upstream, const kda::KernelGradients& gradients) const override {
    timed("kda_backward", [&] { kernels_.kda_backward(problem, inputs, upstream, gradients); });
  }
  void kda_decode(const kda::KernelProblem& problem, const kda::KernelInputs& inputs,
                  const kda::KernelDecode& decode) const override {
    timed("kda_decode", [&] { kernels_.kda_decode(problem, inputs, decode); });
  }
  void sum_of_squares(std::span<const Tensor> xs, const Tensor& out) const override {
    timed("sum_of_squares", [&] { kernels_.sum_of_squares(xs, out); });
  }
  void scale(std::span<const Tensor> xs, double factor) const override {
    timed("scale", [&] { kernels_.scale(xs, factor); });
  }
  void adamw(std::span<const AdamWUpdate> updates, const AdamWStep& step) const override {
    timed("adamw", [&] { kernels_.adamw(updates, step); });
  }
  void uniform(PhiloxState state, const Tensor& out) const override {
    timed("random", [&] { kernels_.uniform(state, out); });
  }
  void normal(PhiloxState state, const Tensor& out) const override {
    timed("random", [&] { kernels_.normal(state, out); });
  }
  void random_integers(PhiloxState state, int64_t low, int64_t high, const Tensor& out) const override {
    timed("random", [&] { kernels_.random_integers(state, low, high, out); });
  }

 private:
  // In the order of the enumerations.
  static constexpr std::array<std::string_view, 27> kUnary{
      "neg",         "abs",      "sign", "square", "sqrt", "rsqrt", "reciprocal", "exp",   "exp2",
      "expm1",       "log",      "log2", "log1p",  "sin",  "cos",   "tanh",       "erf",   "sigmoid",
      "log_sigmoid", "softplus", "silu", "gelu",   "relu", "floor", "ceil",       "round", "logical_not"};
  static constexpr std::array<std::string_view, 12> kBinary{
      "add",           "sub",           "mul",           "div",
      "pow",           "maximum",       "minimum",       "sigmoid_backward",
      "tanh_backward", "silu_backward", "gelu_backward", "softplus_backward"};
  static constexpr std::array<std::string_view, 4> kReduce{"sum", "prod", "max", "min"};

  template <class Call>
  void timed(std::string_view kind, const Call& call) const {
    const auto start = std::chrono::steady_clock::now();
    call();
    KernelTime& time = times_[kind];
    time.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    ++time.calls;
  }

  const Backend& kernels_;
  mutable std::map<std::string_view, KernelTime> times_;
};

}  // namespace deltatape::bench
