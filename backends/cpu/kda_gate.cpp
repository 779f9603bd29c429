// The gate of KDA by itself, as ops/kda/gate.h has it: log decay from logits, and its gradients.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "backends/cpu/cpu_backend.h"
#include "backends/cpu/lines.h"
#include "backends/cpu/thread_split.h"
#include "backends/cpu/vector_loop.h"
#include "backends/elementwise_functions.h"

namespace deltatape::cpu {
namespace {

using deltatape::kda::Gate;

/// A small parameter as T.
template <class T>
std::vector<T> values_of(const Tensor& x, int64_t count, T missing) {
  std::vector<T> values(static_cast<size_t>(count), missing);
  if (x.defined()) {
    convert_row(x.dtype(), dtype_of<T>)(static_cast<const char*>(x.raw()), byte_stride(x, 0),
                                        reinterpret_cast<char*>(values.data()), sizeof(T), count);
  }
  return values;
}

/// One token is a row of HV times K columns. Tensors over tokens are dense.
template <class T>
class GateRows {
  using V = Vec<T>;

 public:
  GateRows(Gate gate, double lower_bound, const Tensor& g, const Tensor& A_log, const Tensor& dt_bias)
      : gate_(gate),
        lower_bound_(lower_bound),
        g_(g),
        tokens_(g.shape()[0] * g.shape()[1]),
        heads_(g.shape()[2]),
        channels_(g.shape()[3]),
        bias_(values_of<T>(dt_bias, heads_ * channels_, T(0))),
        rates_(values_of<T>(A_log, heads_, T(0))) {
    for (T& rate : rates_) {
      rate = std::exp(rate);
    }
  }

  void forward(const Tensor& out) const {
    parallel_ranges(tokens_, tokens_ * width() * kWeight, [&](int64_t begin, int64_t end) {
      LineReader<T> reader(g_.dtype(), size(g_), width());
      LineWriter<T> writer(out.dtype(), size(out), width());
      for (int64_t token = begin; token < end; ++token) {
        const T* x = reader.read(line(g_, token));
        T* y = writer.begin(place(out, token));
        for (int64_t head = 0; head < heads_; ++head) {
          const int64_t first = head * channels_;
          const V a(static_cast<double>(rates_[static_cast<size_t>(head)]));
          for_each_vector<T>(channels_, [&](int64_t c, auto lanes) {
            const V z = lanes.load(x + first + c) + lanes.load(bias_.data() + first + c);
            lanes.store(gate_ == Gate::standard ? -(a * elementwise::softplus(z))
                                                : V(lower_bound_) * elementwise::sigmoid(a * z),
                        y + first + c);
          });
        }
        writer.finish(place(out, token));
      }
    });
  }

  /// Gradients may be undefined.
  void backward(const Tensor& dy, const Tensor& dg, const Tensor& dA_log, const Tensor& ddt_bias) const {
    constexpr int64_t kTokens = 64;  // whose share of the sums is added up in T; shares are added in f64
    const int64_t pieces = (tokens_ + kTokens - 1) / kTokens;
    std::vector<T> bias_sums(static_cast<size_t>(pieces * width()), T(0));
    std::vector<T> rate_sums(static_cast<size_t>(pieces * width()), T(0));
    parallel_ranges(pieces, tokens_ * width() * kWeight, [&](int64_t begin, int64_t end) {
      LineReader<T> reader(g_.dtype(), size(g_), width());
      LineReader<T> dy_reader(dy.dtype(), size(dy), width());
      LineWriter<T> writer(g_.dtype(), size(g_), width());
      std::vector<T> unwanted(static_cast<size_t>(dg.defined() ? 0 : width()));
      for (int64_t piece = begin; piece < end; ++piece) {
        for (int64_t token = piece * kTokens; token < std::min(tokens_, (piece + 1) * kTokens); ++token) {
          T* to = dg.defined() ? writer.begin(place(dg, token)) : unwanted.data();
          backward_row(reader.read(line(g_, token)), dy_reader.read(line(dy, token)), to,
                       bias_sums.data() + piece * width(), rate_sums.data() + piece * width());
          if (dg.defined()) {
            writer.finish(place(dg, token));
          }
        }
      }
    });
    if (ddt_bias.defined()) {
      store(added_up(bias_sums, pieces), ddt_bias);
    }
    if (dA_log.defined()) {
      const std::vector<double> sums = added_up(rate_sums, pieces);
      std::vector<double> heads(static_cast<size_t>(heads_), 0.0);
      for (size_t c = 0; c < sums.size(); ++c) {
        heads[c / static_cast<size_t>(channels_)] += sums[c];
      }
      store(heads, dA_log);
    }
  }

 private:
  static constexpr int64_t kWeight = 4;  // exponentials make an element so many times simple work

  void backward_row(const T* x, const T* dy, T* dg, T* bias_sum, T* rate_sum) const {
    for (int64_t head = 0; head < heads_; ++head) {
      const int64_t first = head * channels_;
      const V a(static_cast<double>(rates_[static_cast<size_t>(head)]));
      for_each_vector<T>(channels_, [&](int64_t c, auto lanes) {
        const int64_t at = first + c;
        const V z = lanes.load(x + at) + lanes.load(bias_.data() + at);
        const V upstream = lanes.load(dy + at);
        const V argument = gate_ == Gate::standard ? z : a * z;
        const V e = exp(-abs(argument));  // in [0, 1]
        const V share = V(1.0) / (V(1.0) + e);
        V dz;
        V rate;  // sums up to the gradient of A_log
        if (gate_ == Gate::standard) {
          const V scaled = -(upstream * a);
          dz = scaled * select(z < V(0.0), e * share, share);
          rate = scaled * (select(z > V(0.0), z, V(0.0)) + log1p_of_fraction(e));
        } else {
          // sigmoid(y) sigmoid(-y), not s (1 - s): the latter is 0 for large y.
          dz = upstream * V(lower_bound_) * (e * share * share) * a;
          rate = dz * z;
        }
        lanes.store(dz, dg + at);
        lanes.store(lanes.load(bias_sum + at) + dz, bias_sum + at);
        lanes.store(lanes.load(rate_sum + at) + rate, rate_sum + at);
      });
    }
  }

  [[nodiscard]] std::vector<double> added_up(const std::vector<T>& shares, int64_t pieces) const {
    std::vector<double> sums(static_cast<size_t>(width()), 0.0);
    for (int64_t piece = 0; piece < pieces; ++piece) {
      const T* row = shares.data() + piece * width();
      for (size_t c = 0; c < sums.size(); ++c) {
        sums[c] += static_cast<double>(row[c]);
      }
    }
    return sums;
  }
  static void store(const std::vector<double>& sums, const Tensor& out) {
    convert_row(DType::f64, out.dtype())(reinterpret_cast<const char*>(sums.data()), sizeof(double),
                                         static_cast<char*>(out.mutable_raw()), size(out),
                                         static_cast<int64_t>(sums.size()));
  }

  [[nodiscard]] int64_t width() const { return heads_ * channels_; }
  static int64_t size(const Tensor& x) { return static_cast<int64_t>(size_of(x.dtype())); }
  [[nodiscard]] const char* line(const Tensor& x, int64_t token) const {
    return static_cast<const char*>(x.raw()) + token * width() * size(x);
  }
  [[nodiscard]] char* place(const Tensor& x, int64_t token) const {
    return static_cast<char*>(x.mutable_raw()) + token * width() * size(x);
  }

  Gate gate_;
  double lower_bound_;
  Tensor g_;
  int64_t tokens_;
  int64_t heads_;
  int64_t channels_;
  std::vector<T> bias_;
  std::vector<T> rates_;
};

}  // namespace

void CpuBackend::kda_gate(Gate gate, double lower_bound, const Tensor& g, const Tensor& A_log, const Tensor& dt_bias,
                          const Tensor& out) const {
  if (g.dtype() == DType::f64) {
    GateRows<double>(gate, lower_bound, g, A_log, dt_bias).forward(out);
  } else {
    GateRows<float>(gate, lower_bound, g, A_log, dt_bias).forward(out);
  }
}

void CpuBackend::kda_gate_backward(Gate gate, double lower_bound, const Tensor& dy, const Tensor& g,
                                   const Tensor& A_log, const Tensor& dt_bias, const Tensor& dg, const Tensor& dA_log,
                                   const Tensor& ddt_bias) const {
  if (g.dtype() == DType::f64) {
    GateRows<double>(gate, lower_bound, g, A_log, dt_bias).backward(dy, dg, dA_log, ddt_bias);
  } else {
    GateRows<float>(gate, lower_bound, g, A_log, dt_bias).backward(dy, dg, dA_log, ddt_bias);
  }
}

}  // namespace deltatape::cpu
