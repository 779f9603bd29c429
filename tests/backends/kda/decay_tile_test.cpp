// Decayed products of a tile and their adjoint, against plain loops.
#include <doctest/doctest.h>

#include <algorithm>
#include <limits>

#include "tests/backends/kda/plain_tile.h"

namespace deltatape {
namespace {

using cpu::kda::DecayInputs;
using cpu::kda::DecayProducts;
using test::PlainTile;
using test::Row;

template <class T>
std::vector<T> rounded(const Row& x) {
  return std::vector<T>(x.begin(), x.end());
}

/// The largest difference over the largest size; infinite for NaN.
template <class T>
double error_of(const std::vector<T>& x, const Row& reference) {
  double worst = 0.0;
  double largest = 1e-300;
  for (size_t i = 0; i < reference.size(); ++i) {
    const double difference = std::fabs(static_cast<double>(x[i]) - reference[i]);
    worst = std::isfinite(difference) ? std::max(worst, difference) : std::numeric_limits<double>::infinity();
    largest = std::max(largest, std::fabs(reference[i]));
  }
  return worst / largest;
}
/// The largest error of an element relative to itself, where it is not tiny beside what f32 can hold.
template <class T>
double elementwise_error(const std::vector<T>& x, const Row& reference) {
  double worst = 0.0;
  for (size_t i = 0; i < reference.size(); ++i) {
    if (std::fabs(reference[i]) > 1e-25) {
      const double error = std::fabs(static_cast<double>(x[i]) - reference[i]) / std::fabs(reference[i]);
      worst = std::isfinite(error) ? std::max(worst, error) : std::numeric_limits<double>::infinity();
    }
  }
  return worst;
}

Row random_lower(uint64_t seed, bool strict) {
  Generator generator(seed);
  Row x(256, 0.0);
  for (int64_t i = 0; i < PlainTile::kRows; ++i) {
    for (int64_t j = 0; j < i + (strict ? 0 : 1); ++j) {
      x[test::square(i, j)] = 2.0 * generator.next_uniform() - 1.0;
    }
  }
  return x;
}

template <class T>
void check_tile(const PlainTile& tile, bool centred, double limit) {
  const auto q = rounded<T>(tile.q);
  const auto k = rounded<T>(tile.k);
  const auto g = rounded<T>(tile.g);
  // The reference works with the rounded numbers, too.
  PlainTile exact = tile;
  exact.q.assign(q.begin(), q.end());
  exact.k.assign(k.begin(), k.end());
  exact.g.assign(g.begin(), g.end());
  const DecayInputs<T> in{q.data(), k.data(), g.data(), tile.Kp};
  const T garbage = std::numeric_limits<T>::quiet_NaN();
  std::vector<T> scratch(static_cast<size_t>(cpu::kda::decay_scratch<T>(tile.Kp)), garbage);

  std::vector<T> from_start(tile.size(), garbage);
  std::vector<T> to_end(tile.size(), garbage);
  std::vector<T> N(256, garbage);
  std::vector<T> Aqk(256, garbage);
  cpu::kda::decay_products(centred, in, DecayProducts<T>{from_start.data(), to_end.data(), N.data(), Aqk.data()},
                           scratch.data());
  const test::PlainProducts products = test::plain_products(exact);
  CHECK(error_of(N, products.N) <= limit);
  CHECK(error_of(Aqk, products.Aqk) <= limit);
  CHECK(error_of(from_start, products.from_start) <= limit);
  CHECK(error_of(to_end, products.to_end) <= limit);

  // Without q: the same but for Aqk, which nobody touches.
  std::fill(scratch.begin(), scratch.end(), garbage);
  for (std::vector<T>* out : {&from_start, &to_end, &N}) {
    std::fill(out->begin(), out->end(), garbage);
  }
  std::fill(Aqk.begin(), Aqk.end(), T(7));
  cpu::kda::decay_products(centred, DecayInputs<T>{nullptr, k.data(), g.data(), tile.Kp},
                           DecayProducts<T>{from_start.data(), to_end.data(), N.data(), Aqk.data()}, scratch.data());
  CHECK(error_of(N, products.N) <= limit);
  CHECK(error_of(from_start, products.from_start) <= limit);
  CHECK(error_of(to_end, products.to_end) <= limit);
  CHECK(std::all_of(Aqk.begin(), Aqk.end(), [](T x) { return x == T(7); }));

  const Row dN = random_lower(11, true);
  const Row dP = random_lower(12, false);
  const auto n = rounded<T>(dN);
  const auto p = rounded<T>(dP);
  std::vector<T> dq(tile.size(), T(0));
  std::vector<T> dk(tile.size(), T(0));
  std::vector<T> dg(tile.size(), T(0));
  cpu::kda::decay_products_backward(centred, in, n.data(), p.data(), dq.data(), dk.data(), dg.data(), scratch.data());
  const test::PlainGradients gradients = test::plain_gradients(exact, Row(n.begin(), n.end()), Row(p.begin(), p.end()));
  CHECK(error_of(dq, gradients.dq) <= limit);
  CHECK(error_of(dk, gradients.dk) <= limit);
  CHECK(error_of(dg, gradients.dg) <= (centred ? 10.0 * limit : limit));
}

TEST_CASE("kda kernels: decayed products of a tile, general form, any decay") {
  const auto kinds = {
      +[](int64_t, double) { return 0.0; },
      +[](int64_t, double u) { return -0.1 * u; },
      +[](int64_t, double u) { return -20.0 * u; },
      +[](int64_t i, double u) { return i % 5 == 2 ? -20.0 : -0.01 * u; },
  };
  int number = 0;
  for (const auto kind : kinds) {
    CAPTURE(number++);
    for (const int64_t K : {1, 5, 16, 60, 128}) {
      CAPTURE(K);
      check_tile<double>(PlainTile(K, cpu::kda::Sizes<double>::padded(K), 3, kind), false, 1e-13);
      check_tile<float>(PlainTile(K, cpu::kda::Sizes<float>::padded(K), 3, kind), false, 2e-6);
    }
  }
}

TEST_CASE("kda kernels: decayed products of a tile, centred form within [-5, 0]") {
  const auto kinds = {
      +[](int64_t, double u) { return -0.1 * u; },
      +[](int64_t, double u) { return -5.0 * u; },
      +[](int64_t, double) { return -5.0; },
  };
  for (const auto kind : kinds) {
    for (const int64_t K : {1, 60, 128}) {
      CAPTURE(K);
      check_tile<double>(PlainTile(K, cpu::kda::Sizes<double>::padded(K), 4, kind), true, 1e-13);
      // Sums of up to 40 and 80 are rounded to a few 1e-6 before the exponential.
      check_tile<float>(PlainTile(K, cpu::kda::Sizes<float>::padded(K), 4, kind), true, 1e-5);
    }
  }
}

TEST_CASE("kda kernels: a step that forgets everything, exp(g) = 0") {
  PlainTile tile(8, cpu::kda::Sizes<double>::padded(8), 5,
                 [](int64_t i, double u) { return i == 6 ? -std::numeric_limits<double>::infinity() : -u; });
  check_tile<double>(tile, false, 1e-13);
  check_tile<float>(
      PlainTile(8, cpu::kda::Sizes<float>::padded(8), 5,
                [](int64_t i, double u) { return i == 6 ? -std::numeric_limits<double>::infinity() : -u; }),
      false, 2e-6);
}

TEST_CASE("kda kernels: small gradients of strong decays keep their digits in the general form") {
  const PlainTile tile(32, cpu::kda::Sizes<float>::padded(32), 6,
                       [](int64_t, double u) { return u < 0.3 ? -20.0 : -0.1 * u; });
  const auto q = rounded<float>(tile.q);
  const auto k = rounded<float>(tile.k);
  const auto g = rounded<float>(tile.g);
  PlainTile exact = tile;
  exact.q.assign(q.begin(), q.end());
  exact.k.assign(k.begin(), k.end());
  exact.g.assign(g.begin(), g.end());
  const Row dN(256, 0.0);
  Row dP(256, 0.0);
  dP[test::square(15, 0)] = 1.0;  // one pair: no sum in which anything could cancel
  const auto n = rounded<float>(dN);
  const auto p = rounded<float>(dP);
  std::vector<float> dq(tile.size(), 0.0F);
  std::vector<float> dk(tile.size(), 0.0F);
  std::vector<float> dg(tile.size(), 0.0F);
  std::vector<float> scratch(static_cast<size_t>(cpu::kda::decay_scratch<float>(tile.Kp)));
  cpu::kda::decay_products_backward(false, {q.data(), k.data(), g.data(), tile.Kp}, n.data(), p.data(), dq.data(),
                                    dk.data(), dg.data(), scratch.data());
  CHECK(elementwise_error(dg, test::plain_gradients(exact, dN, dP).dg) <= 2e-5);
}

TEST_CASE("kda kernels: which tiles may be centred") {
  const auto allowed = [](double special) {
    std::vector<float> g(16 * 16, -1.0F);
    g[37] = static_cast<float>(special);
    return cpu::kda::may_be_centred(g.data(), 16);
  };
  CHECK(allowed(-1.0));
  CHECK(allowed(0.0));
  CHECK(allowed(-5.0));
  CHECK_FALSE(allowed(-5.001));
  CHECK_FALSE(allowed(0.001));
  CHECK_FALSE(allowed(-std::numeric_limits<double>::infinity()));
  CHECK_FALSE(allowed(std::numeric_limits<double>::quiet_NaN()));
}

}  // namespace
}  // namespace deltatape
