// Sums of the lanes of several registers, and products of equal rows, against plain loops.
#include "backends/cpu/kda/lane_sums.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "backends/cpu/kda/row_dots.h"
#include "core/generator.h"

namespace deltatape {
namespace {

constexpr size_t index(int64_t i) { return static_cast<size_t>(i); }

/// Whole numbers, whose sums are exact in every order.
template <class T, size_t Count>
void check_lane_sums() {
  using V = cpu::Vec<T>;
  Generator generator(Count);
  std::array<V, Count> x;
  std::array<double, Count> expected{};
  for (size_t i = 0; i < Count; ++i) {
    alignas(64) T lanes[index(V::kSize)];
    for (T& lane : lanes) {
      lane = static_cast<T>(std::floor(4000.0 * generator.next_uniform()) - 2000.0);
      expected[i] += static_cast<double>(lane);
    }
    x[i] = V::load(lanes);
  }
  std::vector<T> out(Count + 1, T(7));
  cpu::kda::lane_sums(x, out.data());
  for (size_t i = 0; i < Count; ++i) {
    CAPTURE(i);
    CHECK(static_cast<double>(out[i]) == expected[i]);
  }
  CHECK(out.back() == T(7));
}
template <class T>
void check_all_counts() {
  check_lane_sums<T, 1>();
  check_lane_sums<T, 2>();
  check_lane_sums<T, 3>();
  check_lane_sums<T, 4>();
  check_lane_sums<T, 5>();
  check_lane_sums<T, 7>();
  check_lane_sums<T, 8>();
  check_lane_sums<T, 15>();
  check_lane_sums<T, 16>();
  check_lane_sums<T, 17>();
  check_lane_sums<T, 32>();
}

TEST_CASE("kda kernels: lane sums of several registers") {
  check_all_counts<float>();
  check_all_counts<double>();
}

TEST_CASE("kda kernels: a NaN in one register reaches its own lane sum only") {
  using V = cpu::Vec<float>;
  for (size_t spoiled = 0; spoiled < 16; ++spoiled) {
    std::array<V, 16> x;
    x.fill(V(1.0));
    x[spoiled] = V(std::numeric_limits<double>::quiet_NaN());
    std::array<float, 16> out{};
    cpu::kda::lane_sums(x, out.data());
    for (size_t i = 0; i < out.size(); ++i) {
      CHECK((i == spoiled ? std::isnan(out[i]) : out[i] == static_cast<float>(V::kSize)));
    }
  }
}

/// Rows further apart than their length, with NaN between them.
template <class T>
void check_dots_of_rows(int64_t rows, int64_t registers) {
  Generator generator(6);
  const int64_t length = registers * cpu::Vec<T>::kSize;
  const int64_t ld = length + 3;
  std::vector<T> x(index((rows - 1) * ld + length), std::numeric_limits<T>::quiet_NaN());
  std::vector<T> y = x;
  std::vector<double> expected(index(rows), 0.0);
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t c = 0; c < length; ++c) {
      T& a = x[index(i * ld + c)];
      T& b = y[index(i * ld + c)];
      a = static_cast<T>(2.0 * generator.next_uniform() - 1.0);
      b = static_cast<T>(2.0 * generator.next_uniform() - 1.0);
      expected[index(i)] += static_cast<double>(a) * static_cast<double>(b);
    }
  }
  std::vector<T> out(index(rows + 1), T(7));
  cpu::kda::dots_of_rows(rows, length, x.data(), y.data(), ld, out.data());
  const double limit = (std::is_same_v<T, double> ? 1e-15 : 1e-7) * static_cast<double>(length);
  for (int64_t i = 0; i < rows; ++i) {
    CAPTURE(i);
    CHECK(std::fabs(static_cast<double>(out[index(i)]) - expected[index(i)]) <= limit);
  }
  CHECK(out.back() == T(7));
}

TEST_CASE("kda kernels: products of equal rows") {
  for (const int64_t rows : {1, 2, 3, 15, 16, 17, 31, 32, 33, 64}) {
    CAPTURE(rows);
    for (int64_t registers = 1; registers <= 5; ++registers) {
      CAPTURE(registers);
      check_dots_of_rows<float>(rows, registers);
      check_dots_of_rows<double>(rows, registers);
    }
  }
}

}  // namespace
}  // namespace deltatape
