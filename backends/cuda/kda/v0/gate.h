// The gate on the GPU: log decay from logits, and its derivative (docs/kda.md); z = x + dt_bias, a = exp(A_log).
#pragma once

#include "backends/cuda/kda/v0/call.h"
#include "backends/cuda/kda/v0/elements.h"
#include "backends/elementwise_functions.h"

namespace deltatape::cuda::kda::v0 {

template <class T>
struct GateParameters {
  Reader<T> A_log;    // [HV], may be absent
  Reader<T> dt_bias;  // [HV*K], may be absent

  [[nodiscard]] DT_HD T rate(int64_t head) const { return A_log.present() ? elementwise::exp(A_log[head]) : T(1); }
  [[nodiscard]] DT_HD T shifted(T x, int64_t head, int64_t K, int64_t c) const {
    return dt_bias.present() ? x + dt_bias[head * K + c] : x;
  }
};

/// The log decay.
template <class T>
DT_HD T log_decay(const Call& call, T a, T z) {
  switch (call.gate) {
    case Gate::standard:
      return -(a * elementwise::softplus(z));
    case Gate::lower_bound:
      return static_cast<T>(call.lower_bound) * elementwise::sigmoid(a * z);
    default:
      return z;
  }
}

template <class T>
struct GateGradient {
  T dx;      // of the logit, and of dt_bias
  T dA_log;  // its summand; of no meaning without A_log
};

/// From dy, the gradient of the log decay.
template <class T>
DT_HD GateGradient<T> gate_backward(const Call& call, T a, T z, T dy) {
  switch (call.gate) {
    case Gate::standard:
      return {-(dy * a * elementwise::sigmoid(z)), -((dy * a) * elementwise::softplus(z))};
    case Gate::lower_bound: {
      // sigmoid(y) sigmoid(-y) with one exponential; not s (1 - s), which is 0 for large y.
      const T e = elementwise::exp(-elementwise::abs(a * z));
      const T below = T(1) + e;
      const T dx = dy * (static_cast<T>(call.lower_bound) * (e / (below * below)) * a);
      return {dx, dx * z};
    }
    default:
      return {dy, T(0)};
  }
}

}  // namespace deltatape::cuda::kda::v0
