// A call with all ends (norm, gate, sigmoid, groups of heads, sequences) in plain loops over the chunk model: what the
// launcher of v1's backward and its kernels must give.
#pragma once

#include <random>
#include <vector>

#include "backends/kda.h"
#include "tests/backends/cuda/kda/v1/gate_sets.h"

namespace deltatape::test::kda_v1 {

/// Sizes and options. Sequences are [begin, end) of the rows B * T.
struct CallShape {
  int rows = 0;
  int H = 1, HV = 1, K = 64, V = 64;
  std::vector<std::pair<int, int>> sequences;
  kda::Gate gate = kda::Gate::none;
  bool A_log = false, dt_bias = false;
  double lower_bound = -5;
  bool l2norm = false, beta_sigmoid = false;
  double beta_factor = 1;
  bool h0 = false, dht = false;
};

/// The tensors of a call, row-major: q k [rows,H,K], v d_o [rows,HV,V], g [rows,HV,K], beta [rows,HV], states
/// [sequences,HV,K,V]. 16-bit ones hold numbers that bf16 has.
struct CallTensors {
  std::vector<double> q, k, v, g, beta, d_o, A_log, dt_bias, h0, dht;
};
struct CallGradients {
  std::vector<double> dq, dk, dv, dg, dbeta, dA_log, ddt_bias, dh0;
};

inline CallTensors draw_call(const CallShape& s, GateSet set, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  std::uniform_real_distribution<double> uniform;
  const auto stored = [](double x) { return static_cast<double>(nearest_bf16(static_cast<float>(x))); };
  const auto size = [](int a, int b, int c = 1) {
    return static_cast<size_t>(a) * static_cast<size_t>(b) * static_cast<size_t>(c);
  };
  CallTensors x;
  const auto rows = [&](std::vector<double>& to, int heads, int width, auto draw) {
    to.resize(size(s.rows, heads, width));
    for (size_t i = 0; i < to.size(); ++i) {
      to[i] = stored(draw(static_cast<int>(i % static_cast<size_t>(width))));
    }
  };
  const bool correlated = set == GateSet::correlated || set == GateSet::correlated_beta2;
  std::vector<double> common(static_cast<size_t>(s.K));
  for (auto& c : common) {
    c = normal(random);
  }
  const double unit = s.l2norm ? 1.0 : 1.0 / std::sqrt(s.K * (correlated ? 5.0 : 1.0));
  rows(x.q, s.H, s.K, [&](int) { return unit * normal(random); });
  rows(x.k, s.H, s.K,
       [&](int c) { return unit * (normal(random) + (correlated ? 2 * common[static_cast<size_t>(c)] : 0.0)); });
  rows(x.v, s.HV, s.V, [&](int) { return normal(random); });
  rows(x.d_o, s.HV, s.V, [&](int) { return normal(random); });
  rows(x.g, s.HV, s.K, [&](int c) {
    if (s.gate != kda::Gate::none) {
      return normal(random);
    }
    const double steep = -5.0 / (1.0 + std::exp(-normal(random)));
    const bool is_steep = set == GateSet::steep || (set == GateSet::mixed && c % 4 == 0);
    const double far = -60.0 * uniform(random);
    return set == GateSet::unbounded ? far : (is_steep ? steep : -0.02 * uniform(random));
  });
  rows(x.beta, s.HV, 1, [&](int) {
    const double logit = normal(random);
    const double most = set == GateSet::correlated_beta2 ? 2.0 : 1.0;
    return s.beta_sigmoid ? logit : most / (1.0 + std::exp(-logit));
  });
  const auto floats = [&](std::vector<double>& to, size_t n, double spread, double middle) {
    to.resize(n);
    for (auto& y : to) {
      y = static_cast<double>(static_cast<float>(middle + spread * normal(random)));
    }
  };
  if (s.A_log) {
    floats(x.A_log, size(s.HV, 1), 0.5, 0.0);
  }
  if (s.dt_bias) {
    floats(x.dt_bias, size(s.HV, s.K), 0.5, -1.0);
  }
  const int n = static_cast<int>(s.sequences.size());
  if (s.h0) {
    floats(x.h0, size(n, s.HV, s.K * s.V), 1.0, 0.0);
  }
  if (s.dht) {
    floats(x.dht, size(n, s.HV, s.K * s.V), 1.0, 0.0);
  }
  return x;
}

/// One sequence and value head of a call after norm, gate and sigmoid, in double. `round_norm`: normalised rows are
/// rounded to bf16, as kernels do.
inline HeadInputs<double> head_of(const CallShape& s, const CallTensors& x, int sequence, int head, bool round_norm) {
  const auto [begin, end] = s.sequences[static_cast<size_t>(sequence)];
  const int T = end - begin;
  const int shared = head / (s.HV / s.H);
  const double log2e = 1.4426950408889634;
  HeadInputs<double> in;
  in.scale = 1.0 / std::sqrt(s.K);
  in.q = in.k = in.g = Matrix<double>(T, s.K);
  in.v = in.d_o = Matrix<double>(T, s.V);
  in.beta.resize(static_cast<size_t>(T));
  const auto at = [](const std::vector<double>& from, int row, int heads, int h, int width, int c) {
    return from[(static_cast<size_t>(row) * static_cast<size_t>(heads) + static_cast<size_t>(h)) *
                    static_cast<size_t>(width) +
                static_cast<size_t>(c)];
  };
  for (int t = 0; t < T; ++t) {
    double qq = 1e-6;
    double kk = 1e-6;
    for (int c = 0; c < s.K; ++c) {
      in.q(t, c) = at(x.q, begin + t, s.H, shared, s.K, c);
      in.k(t, c) = at(x.k, begin + t, s.H, shared, s.K, c);
      qq += in.q(t, c) * in.q(t, c);
      kk += in.k(t, c) * in.k(t, c);
      const double raw = at(x.g, begin + t, s.HV, head, s.K, c);
      const double z = raw + (s.dt_bias ? at(x.dt_bias, 0, s.HV, head, s.K, c) : 0.0);
      const double a = s.A_log ? std::exp(x.A_log[static_cast<size_t>(head)]) : 1.0;
      double g = raw;
      if (s.gate == kda::Gate::standard) {
        g = -a * (std::max(z, 0.0) + std::log1p(std::exp(-std::abs(z))));
      } else if (s.gate == kda::Gate::lower_bound) {
        g = s.lower_bound / (1.0 + std::exp(-a * z));
      }
      in.g(t, c) = log2e * g;
    }
    for (int c = 0; c < s.K && s.l2norm; ++c) {
      in.q(t, c) /= std::sqrt(qq);
      in.k(t, c) /= std::sqrt(kk);
      if (round_norm) {
        in.q(t, c) = static_cast<double>(nearest_bf16(static_cast<float>(in.q(t, c))));
        in.k(t, c) = static_cast<double>(nearest_bf16(static_cast<float>(in.k(t, c))));
      }
    }
    for (int c = 0; c < s.V; ++c) {
      in.v(t, c) = at(x.v, begin + t, s.HV, head, s.V, c);
      in.d_o(t, c) = at(x.d_o, begin + t, s.HV, head, s.V, c);
    }
    const double b = at(x.beta, begin + t, s.HV, head, 1, 0);
    in.beta[static_cast<size_t>(t)] = s.beta_sigmoid ? s.beta_factor / (1.0 + std::exp(-b)) : b;
  }
  const auto state = [&](const std::vector<double>& from, Matrix<double>& to) {
    if (!from.empty()) {
      to = Matrix<double>(s.K, s.V);
      const size_t first =
          (static_cast<size_t>(sequence) * static_cast<size_t>(s.HV) + static_cast<size_t>(head)) * to.x.size();
      std::copy_n(from.begin() + static_cast<std::ptrdiff_t>(first), to.x.size(), to.x.begin());
    }
  };
  state(x.h0, in.h0);
  state(x.dht, in.dht);
  return in;
}

/// All gradients of a call, through the token recurrence in double.
inline CallGradients plain_gradients(const CallShape& s, const CallTensors& x) {
  CallGradients d;
  d.dq.resize(x.q.size());
  d.dk.resize(x.k.size());
  d.dv.resize(x.v.size());
  d.dg.resize(x.g.size());
  d.dbeta.resize(x.beta.size());
  d.dA_log.resize(static_cast<size_t>(s.HV));
  d.ddt_bias.resize(static_cast<size_t>(s.HV) * static_cast<size_t>(s.K));
  const size_t state = static_cast<size_t>(s.K) * static_cast<size_t>(s.V);
  d.dh0.resize(s.sequences.size() * static_cast<size_t>(s.HV) * state);
  const auto place = [](int row, int heads, int h, int width) {
    return (static_cast<size_t>(row) * static_cast<size_t>(heads) + static_cast<size_t>(h)) *
           static_cast<size_t>(width);
  };
  for (int n = 0; n < static_cast<int>(s.sequences.size()); ++n) {
    const auto [begin, end] = s.sequences[static_cast<size_t>(n)];
    for (int head = 0; head < s.HV; ++head) {
      const HeadInputs<double> in = head_of(s, x, n, head, false);
      const HeadGradients<double> out = token_recurrence(in);
      const int shared = head / (s.HV / s.H);
      const double a = s.A_log ? std::exp(x.A_log[static_cast<size_t>(head)]) : 1.0;
      for (int t = 0; t < end - begin; ++t) {
        const size_t qk = place(begin + t, s.H, shared, s.K);
        const size_t gk = place(begin + t, s.HV, head, s.K);
        const size_t vv = place(begin + t, s.HV, head, s.V);
        for (int c = 0; c < s.K; ++c) {
          const auto i = static_cast<size_t>(c);
          d.dq[qk + i] += out.dq(t, c);
          d.dk[qk + i] += out.dk(t, c);
          const double dy = out.dg(t, c);
          const double bias = s.dt_bias ? x.dt_bias[place(0, s.HV, head, s.K) + i] : 0.0;
          const double z = x.g[gk + i] + bias;
          double dx = dy;
          if (s.gate == kda::Gate::standard) {
            dx = -dy * a / (1.0 + std::exp(-z));
            d.dA_log[static_cast<size_t>(head)] += dy * in.g(t, c) / 1.4426950408889634;
          } else if (s.gate == kda::Gate::lower_bound) {
            dx = dy * s.lower_bound * a / (1.0 + std::exp(-a * z)) / (1.0 + std::exp(a * z));
            d.dA_log[static_cast<size_t>(head)] += dx * z;
          }
          d.dg[gk + i] = dx;
          d.ddt_bias[place(0, s.HV, head, s.K) + i] += dx;
        }
        for (int c = 0; c < s.V; ++c) {
          d.dv[vv + static_cast<size_t>(c)] = out.dv(t, c);
        }
        const size_t b = place(begin + t, s.HV, head, 1);
        const double logit = x.beta[b];
        d.dbeta[b] = out.dbeta[static_cast<size_t>(t)] *
                     (s.beta_sigmoid ? s.beta_factor / (1.0 + std::exp(-logit)) / (1.0 + std::exp(logit)) : 1.0);
      }
      const size_t first = (static_cast<size_t>(n) * static_cast<size_t>(s.HV) + static_cast<size_t>(head)) * state;
      std::copy(out.dh0.x.begin(), out.dh0.x.end(), d.dh0.begin() + static_cast<std::ptrdiff_t>(first));
    }
  }
  for (int row = 0; row < s.rows && s.l2norm; ++row) {
    for (int h = 0; h < s.H; ++h) {
      for (auto [y, dy] : {std::pair{&x.q, &d.dq}, std::pair{&x.k, &d.dk}}) {
        const size_t first = place(row, s.H, h, s.K);
        double squares = 1e-6;
        double dot = 0;
        for (size_t c = first; c < first + static_cast<size_t>(s.K); ++c) {
          squares += (*y)[c] * (*y)[c];
          dot += (*y)[c] * (*dy)[c];
        }
        for (size_t c = first; c < first + static_cast<size_t>(s.K); ++c) {
          (*dy)[c] = ((*dy)[c] - (*y)[c] * dot / squares) / std::sqrt(squares);
        }
      }
    }
  }
  return d;
}

}  // namespace deltatape::test::kda_v1
