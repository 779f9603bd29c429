// The gate of KDA by itself, as ops/kda/gate.h has it: log decay from logits, and its gradients.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "backends/cuda/cuda_backend.h"
#include "backends/cuda/dense.h"
#include "backends/cuda/rows.h"
#include "backends/elementwise_functions.h"

namespace deltatape::cuda {
namespace {

using deltatape::kda::Gate;

/// The parameters as what the gate is computed in; missing ones count as 0.
template <class C>
struct GateParameters {
  Gate gate;
  C lower_bound;
  int64_t heads;
  int64_t channels;
  const C* A_log;    // [heads] or null
  const C* dt_bias;  // [heads channels] or null

  [[nodiscard]] DT_HD C rate(int64_t head) const { return A_log == nullptr ? C(1) : std::exp(A_log[head]); }
  /// `at`: head * channels + channel.
  [[nodiscard]] DT_HD C bias(int64_t at) const { return dt_bias == nullptr ? C(0) : dt_bias[at]; }
};

/// A line is the channels of one head of one token.
// Bytes: each logit read and each log decay written once.
template <class T>
struct GateForward {
  GateParameters<Compute<T>> parameters;
  Lines<T> g;
  Lines<T> out;

  DT_HD void operator()(int64_t line, int64_t i) const {
    using C = Compute<T>;
    const int64_t head = divide(line, parameters.heads).remainder;
    const C a = parameters.rate(head);
    Pack<T> pack = g.line(line).pack(i);
    for (int j = 0; j < kPack<T>; ++j) {
      const int64_t channel = i * kPack<T> + j;
      if (channel < parameters.channels) {
        const C z = pack[j] + parameters.bias(head * parameters.channels + channel);
        pack[j] = parameters.gate == Gate::standard ? -(a * elementwise::softplus(z))
                                                    : parameters.lower_bound * elementwise::sigmoid(a * z);
      }
    }
    out.out_line(line).set_pack(i, pack);
  }
};

/// A thread has one channel of up to 64 tokens, and adds up their share of the parameters' gradients.
// Bytes: each logit and each dy read, each dg written once; the shares are 1/64 of that or less.
template <class T, class Dy>
struct GateBackward {
  using C = Compute<T>;
  GateParameters<C> parameters;
  const T* g;
  const Dy* dy;
  T* dg;           // or null
  C* bias_shares;  // [pieces, heads channels], or null, as the next
  C* rate_shares;
  int64_t tokens;
  int64_t tokens_per_piece;

  DT_HD void operator()(int64_t i) const {
    const int64_t width = parameters.heads * parameters.channels;
    const Division place = divide(i, width);
    const int64_t at = place.remainder;
    const C a = parameters.rate(divide(at, parameters.channels).quotient);
    const C bias = parameters.bias(at);
    const int64_t first = place.quotient * tokens_per_piece;
    const int64_t last = first + tokens_per_piece < tokens ? first + tokens_per_piece : tokens;
    C bias_sum = 0;
    C rate_sum = 0;
    for (int64_t token = first; token < last; ++token) {
      const C z = widen(g[token * width + at]) + bias;
      const auto upstream = static_cast<C>(widen(dy[token * width + at]));
      const C argument = parameters.gate == Gate::standard ? z : a * z;
      const C e = std::exp(-std::abs(argument));  // in [0, 1]
      const C share = C(1) / (C(1) + e);
      C dz;
      C rate;  // sums up to the gradient of A_log
      if (parameters.gate == Gate::standard) {
        const C scaled = -(upstream * a);
        dz = scaled * (z < C(0) ? e * share : share);
        rate = scaled * ((z > C(0) ? z : C(0)) + std::log1p(e));
      } else {
        // sigmoid(y) sigmoid(-y), not s (1 - s): the latter is 0 for large y.
        dz = upstream * parameters.lower_bound * (e * share * share) * a;
        rate = dz * z;
      }
      if (dg != nullptr) {
        dg[token * width + at] = narrow<T>(dz);
      }
      bias_sum += dz;
      rate_sum += rate;
    }
    if (bias_shares != nullptr) {
      bias_shares[i] = bias_sum;
    }
    if (rate_shares != nullptr) {
      rate_shares[i] = rate_sum;
    }
  }
};

/// Parameters on the device, dense and converted.
template <class C>
class HeldParameters {
 public:
  HeldParameters(Gate gate, double lower_bound, const Tensor& g, const Tensor& A_log, const Tensor& dt_bias)
      : A_log_(dense(converted(A_log, dtype_of<C>))),
        dt_bias_(dense(converted(dt_bias, dtype_of<C>))),
        parameters_{gate,         static_cast<C>(lower_bound), g.shape()[2],
                    g.shape()[3], data_of<const C>(A_log_),    data_of<const C>(dt_bias_)} {}
  [[nodiscard]] const GateParameters<C>& parameters() const { return parameters_; }

 private:
  Tensor A_log_;
  Tensor dt_bias_;
  GateParameters<C> parameters_;
};

}  // namespace

void CudaBackend::kda_gate(Gate gate, double lower_bound, const Tensor& g, const Tensor& A_log, const Tensor& dt_bias,
                           const Tensor& out) const {
  if (g.numel() == 0) {
    return;
  }
  visit_floating(g.dtype(), [&](auto tag) {
    using T = decltype(tag);
    const HeldParameters<Compute<T>> held(gate, lower_bound, g, A_log, dt_bias);
    const GateForward<T> body{held.parameters(), rows_of<T>(g), rows_of<T>(out)};
    launch_packs<T>(current_stream(g.device()), body.g.layout, body);
  });
}

void CudaBackend::kda_gate_backward(Gate gate, double lower_bound, const Tensor& dy, const Tensor& g,
                                    const Tensor& A_log, const Tensor& dt_bias, const Tensor& dg, const Tensor& dA_log,
                                    const Tensor& ddt_bias) const {
  const int64_t tokens = g.shape()[0] * g.shape()[1];
  const int64_t heads = g.shape()[2];
  const int64_t channels = g.shape()[3];
  const int64_t width = heads * channels;
  const int64_t per_piece = std::clamp<int64_t>(tokens * width / (int64_t{1} << 18), 1, 64);
  const int64_t pieces = (tokens + per_piece - 1) / per_piece;
  const bool wide = g.dtype() == DType::f64;
  const DType computed = wide ? DType::f64 : DType::f32;
  const auto shares_for = [&](const Tensor& gradient) {
    return gradient.defined() ? empty({pieces, width}, computed, g.device()) : Tensor();
  };
  const Tensor bias_shares = shares_for(ddt_bias);
  const Tensor rate_shares = shares_for(dA_log);
  visit_floating(g.dtype(), [&](auto tag) {
    using T = decltype(tag);
    using C = Compute<T>;
    const HeldParameters<C> held(gate, lower_bound, g, A_log, dt_bias);
    // dy of another dtype than g's is read as what is computed in.
    const Tensor upstream = dy.dtype() == g.dtype() ? dy : converted(dy, computed);
    const auto run = [&](auto dy_tag) {
      using Dy = decltype(dy_tag);
      launch_elements(
          current_stream(g.device()), pieces * width,
          GateBackward<T, Dy>{held.parameters(), data_of<const T>(g), data_of<const Dy>(upstream), data_of<T>(dg),
                              data_of<C>(bias_shares), data_of<C>(rate_shares), tokens, per_piece});
    };
    upstream.dtype() == g.dtype() ? run(T{}) : run(C{});
  });
  if (ddt_bias.defined()) {
    reduce(ReduceKind::sum, bias_shares, as_rows(ddt_bias, width));
  }
  if (dA_log.defined()) {
    const Tensor sums = empty({1, width}, DType::f64, g.device());
    reduce(ReduceKind::sum, rate_shares, sums);
    reduce(ReduceKind::sum, sums.as_view({heads, channels}, {channels, 1}, 0),
           dA_log.as_view({heads, 1}, {1, 1}, dA_log.offset()));
  }
}

}  // namespace deltatape::cuda
