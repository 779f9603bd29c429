// The gate of one value head: log decay from logits, and its derivative.
#pragma once

#include <cmath>

#include "backends/cpu/kda/rows.h"
#include "backends/cpu/kda/tile.h"
#include "backends/elementwise_functions.h"

namespace deltatape::cpu::kda {

/// docs/kda.md, "Contract"; with z = x + dt_bias and a = exp(A_log).
template <class T>
class GateOfHead {
 public:
  /// `bias` [Kp] is filled with dt_bias of this head and must outlive the object.
  GateOfHead(const KernelProblem& p, const KernelInputs& in, int64_t head, T* bias)
      : gate_(p.gate), lower_bound_(p.lower_bound), bias_(bias) {
    const int64_t padded = Sizes<T>::padded(p.K);
    if (in.dt_bias.defined()) {
      RowReader<T>(in.dt_bias, p.K).read_padded(head, bias, padded);
    } else {
      std::fill(bias, bias + padded, T(0));
    }
    if (in.A_log.defined()) {
      T A_log = 0;
      RowReader<T>(in.A_log, 1).read(head, 0, 1, &A_log);
      a_ = std::exp(A_log);
      has_a_ = true;
    }
  }

  /// Log decay from the logits at columns c, c + 1, ...
  [[nodiscard]] Vec<T> operator()(Vec<T> x, int64_t c) const {
    using V = Vec<T>;
    const V z = x + V::load(bias_ + c);
    const V a(static_cast<double>(a_));
    return gate_ == Gate::standard ? -(a * elementwise::softplus(z)) : V(lower_bound_) * elementwise::sigmoid(a * z);
  }

  /// What backward gives at these columns.
  struct Gradient {
    Vec<T> dx;      // of the logits, and of dt_bias
    Vec<T> dA_log;  // its summand
  };
  [[nodiscard]] Gradient backward(Vec<T> x, Vec<T> dy, int64_t c) const {
    using V = Vec<T>;
    const V z = x + V::load(bias_ + c);
    const V a(static_cast<double>(a_));
    if (gate_ == Gate::standard) {
      return {-(dy * a * elementwise::sigmoid(z)), -((dy * a) * elementwise::softplus(z))};
    }
    const V dx = dy * (V(lower_bound_) * sigmoid_slope(a * z) * a);
    return {dx, has_a_ ? dx * z : V(0.0)};
  }

 private:
  /// sigmoid(y) sigmoid(-y), with one exponential; not s (1 - s), which is 0 for large y.
  static Vec<T> sigmoid_slope(Vec<T> y) {
    const Vec<T> e = exp(-abs(y));
    const Vec<T> below = Vec<T>(1.0) + e;
    return e / (below * below);
  }

  Gate gate_;
  double lower_bound_;
  const T* bias_;
  T a_ = 1;
  bool has_a_ = false;
};

}  // namespace deltatape::cpu::kda
