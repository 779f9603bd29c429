// From the tensors of a call to the operands of the recurrence: norm, gate and sigmoid.
#pragma once

#include "backends/cuda/block.h"
#include "backends/cuda/kda/v0/call.h"
#include "backends/cuda/kda/v0/elements.h"
#include "backends/cuda/kda/v0/gate.h"

namespace deltatape::cuda::kda::v0 {

/// Added to x.x under the root of the L2 norm.
inline constexpr double kNormEps = 1e-6;

/// q or k of a launch's heads, normalised where asked for. A block per row and head.
template <class T>
struct NormalizeRows {
  Call call;
  Reader<T> x;  // [rows, H, K]
  T* y;         // [rows, key_heads, K]
  T* norm;      // [rows, key_heads]

  DT_HD void operator()(Block<32>& block) const {
    const int64_t K = call.K;
    const int64_t row = block.index() / call.key_heads();
    const int64_t head = block.index() % call.key_heads();
    const int64_t from = (row * call.H + call.first_key_head() + head) * K;
    T factor = T(1);
    if (call.l2norm) {
      const T squares = block.template sum<T>(K, [&](int64_t c) {
        const T value = x[from + c];
        return value * value;
      });
      factor = T(1) / elementwise::sqrt(squares + static_cast<T>(kNormEps));
    }
    block.each(K, [&](int64_t c) { y[block.index() * K + c] = x[from + c] * factor; });
    block.once([&] { norm[block.index()] = factor; });
  }
};

/// exp of the log decay, element by element of [rows, heads, K].
template <class T>
struct Decays {
  Call call;
  Reader<T> g;  // [rows, HV, K]
  GateParameters<T> gate;
  T* decay;

  DT_HD void operator()(int64_t i) const {
    const int64_t c = i % call.K;
    const int64_t head = call.first_head + i / call.K % call.heads;
    const int64_t row = i / call.K / call.heads;
    const T x = g[(row * call.HV + head) * call.K + c];
    decay[i] = elementwise::exp(log_decay(call, gate.rate(head), gate.shifted(x, head, call.K, c)));
  }
};

/// beta, element by element of [rows, heads].
template <class T>
struct Betas {
  Call call;
  Reader<T> x;  // [rows, HV]
  T* beta;

  DT_HD void operator()(int64_t i) const {
    const T given = x[i / call.heads * call.HV + call.first_head + i % call.heads];
    beta[i] = call.beta_sigmoid ? static_cast<T>(call.beta_factor) * elementwise::sigmoid(given) : given;
  }
};

}  // namespace deltatape::cuda::kda::v0
