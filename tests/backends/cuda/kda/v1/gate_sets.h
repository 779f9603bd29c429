// The inputs that the rounding of the v1 kernels is judged by: six kinds of gates and keys.
#pragma once

#include <cstdint>
#include <random>
#include <string>

#include "tests/backends/cuda/kda/v1/chunk_model.h"

namespace deltatape::test::kda_v1 {

enum class GateSet : uint8_t { steep, slow, mixed, unbounded, correlated, correlated_beta2 };
inline constexpr GateSet kGateSets[] = {GateSet::steep,     GateSet::slow,       GateSet::mixed,
                                        GateSet::unbounded, GateSet::correlated, GateSet::correlated_beta2};

inline std::string name_of(GateSet set) {
  const char* names[] = {"steep", "slow", "mixed", "unbounded", "correlated", "correlated, beta to 2"};
  return names[static_cast<int>(set)];
}

/// Draws a head. What a kernel reads as bf16 is bf16; q and k are of length 1 up to that rounding.
inline HeadInputs<double> draw_head(GateSet set, int T, int K, int V, uint64_t seed, bool states = true) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  std::uniform_real_distribution<double> uniform;
  const auto stored = [](double x) { return static_cast<double>(nearest_bf16(static_cast<float>(x))); };
  const double log2e = 1.4426950408889634;
  const bool correlated = set == GateSet::correlated || set == GateSet::correlated_beta2;
  HeadInputs<double> in;
  in.q = in.k = in.g = Matrix<double>(T, K);
  in.v = in.d_o = Matrix<double>(T, V);
  in.beta.resize(static_cast<size_t>(T));
  in.scale = 1.0 / std::sqrt(K);
  std::vector<double> common(static_cast<size_t>(K));
  for (auto& x : common) {
    x = normal(random);
  }
  for (int t = 0; t < T; ++t) {
    double qq = 1e-6;
    double kk = 1e-6;
    for (int x = 0; x < K; ++x) {
      in.q(t, x) = normal(random);
      in.k(t, x) = (correlated ? 2 * common[static_cast<size_t>(x)] : 0.0) + normal(random);
      qq += in.q(t, x) * in.q(t, x);
      kk += in.k(t, x) * in.k(t, x);
      const double steep = -5.0 / (1.0 + std::exp(-normal(random)));
      const double slow = -0.02 * uniform(random);
      const double far = -60.0 * uniform(random);
      const bool is_steep = set == GateSet::steep || (set == GateSet::mixed && x % 4 == 0);
      in.g(t, x) = log2e * stored(set == GateSet::unbounded ? far : (is_steep ? steep : slow));
    }
    for (int x = 0; x < K; ++x) {
      in.q(t, x) = stored(in.q(t, x) / std::sqrt(qq));
      in.k(t, x) = stored(in.k(t, x) / std::sqrt(kk));
    }
    for (int x = 0; x < V; ++x) {
      in.v(t, x) = stored(normal(random));
      in.d_o(t, x) = stored(normal(random));
    }
    const double beta = 1.0 / (1.0 + std::exp(-normal(random)));
    in.beta[static_cast<size_t>(t)] = stored(set == GateSet::correlated_beta2 ? 2 * beta : beta);
  }
  if (states) {
    in.h0 = in.dht = Matrix<double>(K, V);
    for (size_t i = 0; i < in.h0.x.size(); ++i) {
      in.h0.x[i] = static_cast<double>(static_cast<float>(normal(random)));
      in.dht.x[i] = static_cast<double>(static_cast<float>(normal(random)));
    }
  }
  return in;
}

/// The same in another type.
template <class To, class From>
Matrix<To> converted(const Matrix<From>& a) {
  Matrix<To> m(a.rows, a.cols);
  for (size_t i = 0; i < a.x.size(); ++i) {
    m.x[i] = static_cast<To>(a.x[i]);
  }
  return m;
}
template <class To, class From>
HeadInputs<To> converted(const HeadInputs<From>& a) {
  HeadInputs<To> b;
  b.q = converted<To>(a.q);
  b.k = converted<To>(a.k);
  b.v = converted<To>(a.v);
  b.d_o = converted<To>(a.d_o);
  b.g = converted<To>(a.g);
  b.h0 = converted<To>(a.h0);
  b.dht = converted<To>(a.dht);
  b.beta.assign(a.beta.begin(), a.beta.end());
  b.scale = static_cast<To>(a.scale);
  return b;
}

/// |a - b| / |b|, both in the root mean square; NaN where a has one.
template <class A, class B>
double relative_rms(const std::vector<A>& a, const std::vector<B>& b) {
  double error = 0;
  double size = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double d = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    error += d * d;
    size += static_cast<double>(b[i]) * static_cast<double>(b[i]);
  }
  return size > 0 ? std::sqrt(error / size) : std::sqrt(error);
}

}  // namespace deltatape::test::kda_v1
