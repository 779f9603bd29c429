// Triangular systems and products of a tile, and products of rows, against plain loops.
#include "backends/cpu/kda/triangle.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "backends/cpu/kda/row_dots.h"
#include "core/generator.h"

namespace deltatape {
namespace {

using cpu::kda::kTileRows;

std::vector<double> random(size_t count, Generator& generator) {
  std::vector<double> x(count);
  for (double& value : x) {
    value = 2.0 * generator.next_uniform() - 1.0;
  }
  return x;
}
size_t index(int64_t i) { return static_cast<size_t>(i); }

constexpr int64_t kColumns = 16;

/// Strictly lower (or lower) part of random numbers, NaN in the other entries: they must not be looked at.
std::vector<double> triangle(bool strict, Generator& generator) {
  std::vector<double> x = random(index(cpu::kda::kSquare), generator);
  for (int64_t i = 0; i < kTileRows; ++i) {
    for (int64_t j = strict ? i : i + 1; j < kTileRows; ++j) {
      x[index(i * kTileRows + j)] = std::numeric_limits<double>::quiet_NaN();
    }
  }
  return x;
}

TEST_CASE("kda kernels: writes of a tile solve (I + diag(beta) N) d = diag(beta) x") {
  Generator generator(1);
  const auto N = triangle(true, generator);
  const auto beta = random(index(kTileRows), generator);
  const auto x = random(index(kTileRows * kColumns), generator);
  std::vector<double> e = x;
  std::vector<double> d(x.size());
  const std::vector<double> read(x.size(), 0.0);  // keys that find nothing in the state
  cpu::kda::solve_writes(N.data(), beta.data(), kColumns, e.data(), kColumns, read.data(), kColumns, e.data(), kColumns,
                         d.data(), kColumns);
  for (int64_t i = 0; i < kTileRows; ++i) {
    for (int64_t c = 0; c < kColumns; ++c) {
      double left = e[index(i * kColumns + c)];
      for (int64_t j = 0; j < i; ++j) {
        left += N[index(i * kTileRows + j)] * d[index(j * kColumns + c)];
      }
      CHECK(left == doctest::Approx(x[index(i * kColumns + c)]).epsilon(1e-12));
      CHECK(d[index(i * kColumns + c)] == beta[index(i)] * e[index(i * kColumns + c)]);
    }
  }
}

TEST_CASE("kda kernels: errors of a tile are v without what its keys read, and may take the place of either") {
  Generator generator(7);
  const auto N = triangle(true, generator);
  const auto beta = random(index(kTileRows), generator);
  const auto v = random(index(kTileRows * kColumns), generator);
  const auto read = random(index(kTileRows * kColumns), generator);
  std::vector<double> e(v.size());
  std::vector<double> d(v.size());
  const auto solve = [&](const double* values, const double* reads, double* errors) {
    cpu::kda::solve_writes(N.data(), beta.data(), kColumns, values, kColumns, reads, kColumns, errors, kColumns,
                           d.data(), kColumns);
  };
  solve(v.data(), read.data(), e.data());
  for (int64_t i = 0; i < kTileRows; ++i) {
    for (int64_t c = 0; c < kColumns; ++c) {
      double left = e[index(i * kColumns + c)];
      for (int64_t j = 0; j < i; ++j) {
        left += N[index(i * kTileRows + j)] * d[index(j * kColumns + c)];
      }
      CHECK(std::fabs(left - (v[index(i * kColumns + c)] - read[index(i * kColumns + c)])) <= 1e-12);
    }
  }
  std::vector<double> in_v = v;
  solve(in_v.data(), read.data(), in_v.data());
  CHECK(in_v == e);
  std::vector<double> in_read = read;
  solve(v.data(), in_read.data(), in_read.data());
  CHECK(in_read == e);
}

TEST_CASE("kda kernels: the adjoint solve is the transpose of the solve") {
  // <y, e(x)> = <lambda(y), x> for all x and y, where e = (I + N diag(beta))^-1 x.
  Generator generator(2);
  const auto N = triangle(true, generator);
  const auto beta = random(index(kTileRows), generator);
  const auto x = random(index(kTileRows * kColumns), generator);
  const auto y = random(index(kTileRows * kColumns), generator);
  std::vector<double> e = x;
  std::vector<double> d(x.size());
  const std::vector<double> read(x.size(), 0.0);  // keys that find nothing in the state
  cpu::kda::solve_writes(N.data(), beta.data(), kColumns, e.data(), kColumns, read.data(), kColumns, e.data(), kColumns,
                         d.data(), kColumns);
  // lambda is the gradient with respect to d: scale the incoming gradient of e accordingly.
  std::vector<double> lambda = y;
  cpu::kda::solve_writes_adjoint(N.data(), beta.data(), kColumns, lambda.data(), kColumns);
  for (int64_t c = 0; c < kColumns; ++c) {
    double left = 0.0;
    double right = 0.0;
    for (int64_t i = 0; i < kTileRows; ++i) {
      left += y[index(i * kColumns + c)] * d[index(i * kColumns + c)];
      right += lambda[index(i * kColumns + c)] * beta[index(i)] * x[index(i * kColumns + c)];
    }
    CHECK(left == doctest::Approx(right).epsilon(1e-10));
  }
}

TEST_CASE("kda kernels: triangular products look at their triangle only") {
  Generator generator(3);
  const auto A = triangle(false, generator);
  const auto x = random(index(kTileRows * kColumns), generator);
  const auto y = random(index(kTileRows * kColumns), generator);
  std::vector<double> lower = y;
  std::vector<double> upper = y;
  cpu::kda::add_lower_product(A.data(), kColumns, x.data(), kColumns, lower.data(), kColumns);
  cpu::kda::add_lower_product_adjoint(A.data(), kColumns, x.data(), kColumns, upper.data(), kColumns);
  for (int64_t i = 0; i < kTileRows; ++i) {
    for (int64_t c = 0; c < kColumns; ++c) {
      double forward = y[index(i * kColumns + c)];
      double backward = forward;
      for (int64_t j = 0; j < kTileRows; ++j) {
        forward += j <= i ? A[index(i * kTileRows + j)] * x[index(j * kColumns + c)] : 0.0;
        backward += j >= i ? A[index(j * kTileRows + i)] * x[index(j * kColumns + c)] : 0.0;
      }
      CHECK(lower[index(i * kColumns + c)] == doctest::Approx(forward).epsilon(1e-12));
      CHECK(upper[index(i * kColumns + c)] == doctest::Approx(backward).epsilon(1e-12));
    }
  }
}

TEST_CASE("kda kernels: a row never sees NaN in rows after it") {
  Generator generator(4);
  const auto N = triangle(true, generator);
  const auto A = triangle(false, generator);
  const auto beta = random(index(kTileRows), generator);
  const auto clean = random(index(kTileRows * kColumns), generator);
  auto spoiled = clean;
  constexpr int64_t kFirst = 9;
  std::fill(spoiled.begin() + kFirst * kColumns, spoiled.end(), std::numeric_limits<double>::quiet_NaN());
  const auto run = [&](std::vector<double> e) {
    std::vector<double> d(e.size());
    const std::vector<double> read(e.size(), 0.0);
    cpu::kda::solve_writes(N.data(), beta.data(), kColumns, e.data(), kColumns, read.data(), kColumns, e.data(),
                           kColumns, d.data(), kColumns);
    std::vector<double> o(e.size(), 0.0);
    cpu::kda::add_lower_product(A.data(), kColumns, d.data(), kColumns, o.data(), kColumns);
    return o;
  };
  const auto expected = run(clean);
  const auto actual = run(spoiled);
  for (int64_t i = 0; i < kFirst * kColumns; ++i) {
    CHECK(actual[index(i)] == expected[index(i)]);
  }
}

template <class T>
void check_row_dots(int64_t m, int64_t n, int64_t registers) {
  Generator generator(5);
  const int64_t length = registers * cpu::Vec<T>::kSize;
  const auto x = random(index(m * length), generator);
  const auto y = random(index(n * length), generator);
  const std::vector<T> a(x.begin(), x.end());
  const std::vector<T> b(y.begin(), y.end());
  std::vector<T> out(index(m * n + 1), T(7));
  cpu::kda::row_dots(m, n, length, a.data(), length, b.data(), length, out.data(), n);
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      double sum = 0.0;
      for (int64_t c = 0; c < length; ++c) {
        sum += static_cast<double>(a[index(i * length + c)]) * static_cast<double>(b[index(j * length + c)]);
      }
      const double limit = (std::is_same_v<T, double> ? 1e-15 : 1e-7) * static_cast<double>(length);
      CHECK(std::fabs(static_cast<double>(out[index(i * n + j)]) - sum) <= limit);
    }
  }
  CHECK(out.back() == T(7));
}

TEST_CASE("kda kernels: products of rows") {
  for (const int64_t m : {1, 2, 4, 7, 32}) {
    for (const int64_t n : {1, 3, 4, 16}) {
      check_row_dots<float>(m, n, 3);
      check_row_dots<double>(m, n, 2);
    }
  }
}

}  // namespace
}  // namespace deltatape
