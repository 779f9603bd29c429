#include "tests/ops/kda/plain_adjoint.h"

#include <cmath>

namespace deltatape::test {
namespace {

constexpr int64_t kChunk = 64;

using Numbers = std::vector<double>;

size_t at(int64_t index) { return static_cast<size_t>(index); }

/// Everything of a case as plain numbers, and the gradients that are found.
struct Loops {
  Loops(const KDACase& c, Mistake m)
      : mistake(m),
        l2norm(c.options.use_qk_l2norm),
        B(c.inputs.q.size(0)),
        T(c.inputs.q.size(1)),
        H(c.inputs.q.size(2)),
        K(c.inputs.q.size(3)),
        HV(c.inputs.v.size(2)),
        V(c.inputs.v.size(3)),
        scale(c.options.scale.value_or(1.0 / std::sqrt(static_cast<double>(K)))),
        q(c.inputs.q.to_vector<double>()),
        k(c.inputs.k.to_vector<double>()),
        v(c.inputs.v.to_vector<double>()),
        g(c.inputs.g.to_vector<double>()),
        beta(c.inputs.beta.to_vector<double>()),
        h0(c.inputs.initial_state.to_vector<double>()),
        d_o(c.d_o.to_vector<double>()),
        dht(c.d_ht.to_vector<double>()) {
    if (l2norm) {
      normalize(q, q_factor);
      normalize(k, k_factor);
    }
    o.resize(v.size());
    ht.resize(h0.size());
    dq.resize(q.size());
    dk.resize(k.size());
    dv.resize(v.size());
    dg.resize(g.size());
    dbeta.resize(beta.size());
    dh0.resize(h0.size());
  }

  void normalize(Numbers& x, Numbers& factors) const {
    for (size_t row = 0; row < x.size(); row += at(K)) {
      double squares = 1e-6;
      for (size_t i = 0; i < at(K); ++i) {
        squares += x[row + i] * x[row + i];
      }
      factors.push_back(1.0 / std::sqrt(squares));
      for (size_t i = 0; i < at(K); ++i) {
        x[row + i] *= factors.back();
      }
    }
  }
  /// dx = r (dy - y (y . dy)).
  void norm_backward(const Numbers& y, const Numbers& factors, Numbers& d) const {
    for (size_t row = 0; row < y.size(); row += at(K)) {
      double along = 0.0;
      for (size_t i = 0; i < at(K); ++i) {
        along += y[row + i] * d[row + i];
      }
      for (size_t i = 0; i < at(K); ++i) {
        d[row + i] = factors[row / at(K)] * (d[row + i] - y[row + i] * along);
      }
    }
  }

  [[nodiscard]] size_t token(int64_t b, int64_t t, int64_t heads, int64_t head) const {
    return at((b * T + t) * heads + head);
  }
  [[nodiscard]] double decay(int64_t b, int64_t t, int64_t hv, int64_t i) const {
    const size_t row = mistake == Mistake::heads_and_time_swapped ? at((b * HV + hv) * T + t) : token(b, t, HV, hv);
    return std::exp(g[row * at(K) + at(i)]);
  }

  /// One sequence of one value head, [begin, end) of row b; `leak` [K,V] is what a later sequence left behind.
  void sequence(int64_t n, int64_t b, int64_t begin, int64_t end, int64_t hv, Numbers& leak);

  Mistake mistake;
  bool l2norm;
  int64_t B, T, H, K, HV, V;
  double scale;
  Numbers q, k, v, g, beta, h0, d_o, dht;
  Numbers q_factor, k_factor;
  Numbers o, ht, dq, dk, dv, dg, dbeta, dh0;
};

void Loops::sequence(int64_t n, int64_t b, int64_t begin, int64_t end, int64_t hv, Numbers& leak) {
  const int64_t steps = end - begin;
  const int64_t state = K * V;
  const size_t first = at((n * HV + hv) * state);
  const int64_t head = hv / (HV / H);
  // States before every token and after the last one, decayed states, errors.
  Numbers S(at((steps + 1) * state));
  Numbers decayed(at(steps * state));
  Numbers error(at(steps * V));
  std::copy_n(h0.begin() + static_cast<std::ptrdiff_t>(first), state, S.begin());
  Numbers passing(S.begin(), S.begin() + state);  // what is left of the state before the chunk
  for (int64_t t = 0; t < steps; ++t) {
    double* before = S.data() + t * state;
    if (t % kChunk == 0) {
      if (mistake == Mistake::state_lost_at_chunk && t > 0) {
        std::fill_n(before, state, 0.0);
      }
      passing.assign(before, before + state);
    }
    const size_t qk = token(b, begin + t, H, head) * at(K);
    const size_t row = token(b, begin + t, HV, hv);
    for (int64_t j = 0; j < V; ++j) {
      double predicted = 0.0;
      for (int64_t i = 0; i < K; ++i) {
        const double factor = decay(b, begin + t, hv, i);
        decayed[at(t * state + i * V + j)] = factor * before[i * V + j];
        passing[at(i * V + j)] *= factor;
        predicted += k[qk + at(i)] * decayed[at(t * state + i * V + j)];
      }
      error[at(t * V + j)] = v[row * at(V) + at(j)] - predicted;
      double output = 0.0;
      double through_state = 0.0;
      for (int64_t i = 0; i < K; ++i) {
        const double after = decayed[at(t * state + i * V + j)] + k[qk + at(i)] * beta[row] * error[at(t * V + j)];
        before[state + i * V + j] = after;
        output += q[qk + at(i)] * after;
        through_state += q[qk + at(i)] * passing[at(i * V + j)];
      }
      const bool unscaled = mistake == Mistake::unscaled_inside_chunk;
      o[row * at(V) + at(j)] = unscaled ? scale * through_state + (output - through_state) : scale * output;
    }
  }
  std::copy_n(S.begin() + static_cast<std::ptrdiff_t>(steps * state), state,
              ht.begin() + static_cast<std::ptrdiff_t>(first));

  const size_t from = mistake == Mistake::dht_of_the_wrong_sequence ? at(hv * state) : first;
  Numbers dS(dht.begin() + static_cast<std::ptrdiff_t>(from), dht.begin() + static_cast<std::ptrdiff_t>(from) + state);
  if (mistake == Mistake::gradient_leaks_over_sequence) {
    for (size_t i = 0; i < dS.size(); ++i) {
      dS[i] += leak[i];
    }
  }
  for (int64_t t = steps - 1; t >= 0; --t) {
    const size_t qk = token(b, begin + t, H, head) * at(K);
    const size_t row = token(b, begin + t, HV, hv);
    Numbers dq_row(at(K)), read(at(K)), write(at(K)), lambda(at(V));
    double diagonal = 0.0;
    for (int64_t j = 0; j < V; ++j) {
      for (int64_t i = 0; i < K; ++i) {
        dS[at(i * V + j)] += scale * q[qk + at(i)] * d_o[row * at(V) + at(j)];
        lambda[at(j)] += dS[at(i * V + j)] * k[qk + at(i)];
        dq_row[at(i)] += scale * S[at((t + 1) * state + i * V + j)] * d_o[row * at(V) + at(j)];
      }
      dv[row * at(V) + at(j)] = beta[row] * lambda[at(j)];
      dbeta[row] += lambda[at(j)] * error[at(t * V + j)];
      diagonal -= lambda[at(j)] * beta[row] * error[at(t * V + j)];
      for (int64_t i = 0; i < K; ++i) {
        const double before = decayed[at(t * state + i * V + j)];
        write[at(i)] += dS[at(i * V + j)] * beta[row] * error[at(t * V + j)];
        read[at(i)] -= before * dv[row * at(V) + at(j)];
        const double d_decayed = dS[at(i * V + j)] - k[qk + at(i)] * dv[row * at(V) + at(j)];
        dg[row * at(K) + at(i)] += d_decayed * before;
        dS[at(i * V + j)] = decay(b, begin + t, hv, i) * d_decayed;
      }
    }
    double square = 0.0;
    for (int64_t i = 0; i < K; ++i) {
      square += k[qk + at(i)] * k[qk + at(i)];
    }
    if (mistake == Mistake::diagonal_in_dM) {
      dbeta[row] += diagonal * square;
    }
    for (int64_t i = 0; i < K; ++i) {
      dq[qk + at(i)] += dq_row[at(i)];
      dk[qk + at(i)] += read[at(i)] + write[at(i)];
      if (mistake == Mistake::diagonal_in_dM) {
        dk[qk + at(i)] += 2.0 * beta[row] * diagonal * k[qk + at(i)];
      }
      if (mistake == Mistake::read_and_write_merged) {
        dg[row * at(K) + at(i)] = q[qk + at(i)] * dq_row[at(i)] - k[qk + at(i)] * (read[at(i)] + write[at(i)]);
        if (t + 1 < steps) {
          dg[row * at(K) + at(i)] += dg[(row + at(HV)) * at(K) + at(i)];
        }
      }
    }
    if (mistake == Mistake::gradient_lost_at_chunk && t % kChunk == 0 && t > 0) {
      std::fill(dS.begin(), dS.end(), 0.0);
    }
  }
  std::copy(dS.begin(), dS.end(), dh0.begin() + static_cast<std::ptrdiff_t>(first));
  leak = dS;
}

}  // namespace

NamedResults plain_adjoint(const KDACase& c, Mistake mistake) {
  Loops x(c, mistake);
  const bool varlen = c.inputs.cu_seqlens.defined();
  const auto bounds = varlen ? c.inputs.cu_seqlens.to_vector<int64_t>() : std::vector<int64_t>{0, x.T};
  const int64_t N = varlen ? static_cast<int64_t>(bounds.size()) - 1 : x.B;
  for (int64_t hv = 0; hv < x.HV; ++hv) {
    Numbers leak(at(x.K * x.V));
    for (int64_t n = N - 1; n >= 0; --n) {
      const size_t bound = varlen ? at(n) : 0;
      x.sequence(n, varlen ? 0 : n, bounds[bound], bounds[bound + 1], hv, leak);
    }
  }
  if (x.l2norm && mistake != Mistake::no_norm_jacobian) {
    x.norm_backward(x.q, x.q_factor, x.dq);
    x.norm_backward(x.k, x.k_factor, x.dk);
  }
  const kda::Inputs& in = c.inputs;
  return {{"o", from_vector(x.o, in.v.shape())},
          {"ht", from_vector(x.ht, in.initial_state.shape())},
          {"dq", from_vector(x.dq, in.q.shape())},
          {"dk", from_vector(x.dk, in.k.shape())},
          {"dv", from_vector(x.dv, in.v.shape())},
          {"dg", from_vector(x.dg, in.g.shape())},
          {"dbeta", from_vector(x.dbeta, in.beta.shape())},
          {"dh0", from_vector(x.dh0, in.initial_state.shape())}};
}

}  // namespace deltatape::test
