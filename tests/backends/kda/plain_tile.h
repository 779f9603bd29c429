// The plainest correct versions of what the kernels do with one tile: loops over all pairs, in double.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "backends/cpu/kda/decay_tile.h"
#include "core/generator.h"

namespace deltatape::test {

using Row = std::vector<double>;

/// A tile's inputs [16, Kp] with zeros in columns from K on; g is given by a function of the row and a random number.
struct PlainTile {
  static constexpr int64_t kRows = cpu::kda::kTileRows;

  int64_t K;
  int64_t Kp;
  Row q;
  Row k;
  Row g;

  template <class Decay>
  PlainTile(int64_t channels, int64_t padded, uint64_t seed, Decay decay)
      : K(channels), Kp(padded), q(size()), k(size()), g(size()) {
    Generator generator(seed);
    for (int64_t i = 0; i < kRows; ++i) {
      for (int64_t c = 0; c < K; ++c) {
        q[at(i, c)] = 2.0 * generator.next_uniform() - 1.0;
        k[at(i, c)] = 2.0 * generator.next_uniform() - 1.0;
        g[at(i, c)] = decay(i, generator.next_uniform());
      }
    }
  }
  [[nodiscard]] size_t size() const { return static_cast<size_t>(kRows * Kp); }
  [[nodiscard]] size_t at(int64_t i, int64_t c) const { return static_cast<size_t>(i * Kp + c); }
  /// exp of the sum of g over the steps in (from, to]; from = -1 is the start of the tile.
  [[nodiscard]] double weight(int64_t from, int64_t to, int64_t c) const {
    double sum = 0.0;
    for (int64_t r = from + 1; r <= to; ++r) {
      sum += g[at(r, c)];
    }
    return std::exp(sum);
  }
};

/// Which entry of a 16 x 16 matrix.
inline size_t square(int64_t i, int64_t j) { return static_cast<size_t>(i * PlainTile::kRows + j); }

struct PlainProducts {
  Row N = Row(256, 0.0);
  Row Aqk = Row(256, 0.0);
  Row from_start;
  Row to_end;
};
inline PlainProducts plain_products(const PlainTile& t) {
  PlainProducts p;
  p.from_start.resize(t.size(), 1.0);
  p.to_end.resize(t.size(), 1.0);
  for (int64_t i = 0; i < PlainTile::kRows; ++i) {
    for (int64_t c = 0; c < t.K; ++c) {
      p.from_start[t.at(i, c)] = t.weight(-1, i, c);
      p.to_end[t.at(i, c)] = t.weight(i, PlainTile::kRows - 1, c);
      for (int64_t j = 0; j <= i; ++j) {
        const double w = t.weight(j, i, c);
        p.N[square(i, j)] += j < i ? t.k[t.at(i, c)] * t.k[t.at(j, c)] * w : 0.0;
        p.Aqk[square(i, j)] += t.q[t.at(i, c)] * t.k[t.at(j, c)] * w;
      }
    }
  }
  return p;
}

struct PlainGradients {
  Row dq;
  Row dk;
  Row dg;
};
/// Of sum dN o N + sum dP o Aqk.
inline PlainGradients plain_gradients(const PlainTile& t, const Row& dN, const Row& dP) {
  PlainGradients d{Row(t.size(), 0.0), Row(t.size(), 0.0), Row(t.size(), 0.0)};
  for (int64_t c = 0; c < t.K; ++c) {
    for (int64_t i = 0; i < PlainTile::kRows; ++i) {
      for (int64_t j = 0; j <= i; ++j) {
        const double w = t.weight(j, i, c);
        const double n = j < i ? dN[square(i, j)] : 0.0;
        const double p = dP[square(i, j)];
        d.dq[t.at(i, c)] += p * t.k[t.at(j, c)] * w;
        d.dk[t.at(i, c)] += n * t.k[t.at(j, c)] * w;
        d.dk[t.at(j, c)] += (n * t.k[t.at(i, c)] + p * t.q[t.at(i, c)]) * w;
        for (int64_t r = j + 1; r <= i; ++r) {
          d.dg[t.at(r, c)] += (n * t.k[t.at(i, c)] + p * t.q[t.at(i, c)]) * t.k[t.at(j, c)] * w;
        }
      }
    }
  }
  return d;
}

}  // namespace deltatape::test
