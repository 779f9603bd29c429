// Random kernels against their definitions, element by element, and against their distributions.
#include <doctest/doctest.h>
#include <omp.h>

#include <cmath>
#include <vector>

#include "backends/backend.h"
#include "backends/random_functions.h"
#include "tests/backends/layouts.h"

using namespace deltatape;
using namespace deltatape::test;

namespace {

constexpr PhiloxState kState{0x123456789abcdefULL, 77};

struct Moments {
  double mean = 0;
  double variance = 0;
};
Moments moments(const std::vector<double>& values) {
  Moments result;
  for (const double x : values) {
    result.mean += x / static_cast<double>(values.size());
  }
  for (const double x : values) {
    result.variance += (x - result.mean) * (x - result.mean) / static_cast<double>(values.size());
  }
  return result;
}

}  // namespace

TEST_CASE("philox: the known answers of its authors") {
  // Random123, kat_vectors: philox4x32 10.
  using Words = std::array<uint32_t, 4>;
  CHECK(philox4x32({0, 0, 0, 0}, {0, 0}) == Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}) ==
        Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
        Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("uniform kernel: each element is its formula, in [0, 1), with the right moments") {
  constexpr int64_t kCount = 20000;
  for (const DType dtype : kFloatingTypes) {
    const Tensor out = empty({kCount / 100, 100}, dtype);
    backend_of(out).uniform(kState, out);
    const std::vector<double> values = out.to_vector<double>();
    for (const size_t i : {size_t{0}, size_t{1}, size_t{511}, size_t{512}, size_t{kCount - 1}}) {
      const auto words = philox_words(kState.seed, kState.offset + i);
      const uint64_t u64 = words[0] | (uint64_t{words[1]} << 32);
      const double expected = dtype == DType::f64    ? std::ldexp(static_cast<double>(u64 >> 11), -53)
                              : dtype == DType::f32  ? std::ldexp(static_cast<double>(words[0] >> 8), -24)
                              : dtype == DType::bf16 ? std::ldexp(static_cast<double>(words[0] >> 24), -8)
                                                     : std::ldexp(static_cast<double>(words[0] >> 21), -11);
      CHECK(values[i] == expected);
    }
    CHECK(*std::min_element(values.begin(), values.end()) >= 0.0);
    CHECK(*std::max_element(values.begin(), values.end()) < 1.0);
    const Moments m = moments(values);
    CHECK(std::abs(m.mean - 0.5) <= 0.01);
    CHECK(std::abs(m.variance - 1.0 / 12) <= 0.003);
  }
}

TEST_CASE("normal kernel: Box-Muller in f64, rounded once, with the right moments") {
  constexpr int64_t kCount = 20000;
  for (const DType dtype : kFloatingTypes) {
    const Tensor out = empty({kCount}, dtype);
    backend_of(out).normal(kState, out);
    const std::vector<double> values = out.to_vector<double>();
    for (const size_t i : {size_t{0}, size_t{513}, size_t{kCount - 1}}) {
      const auto words = philox_words(kState.seed, kState.offset + i);
      const double u1 = std::ldexp(static_cast<double>(((words[0] | (uint64_t{words[1]} << 32)) >> 11) + 1), -53);
      const double u2 = std::ldexp(static_cast<double>((words[2] | (uint64_t{words[3]} << 32)) >> 11), -53);
      const double expected = std::sqrt(-2 * std::log(u1)) * std::cos(2 * std::acos(-1.0) * u2);
      CHECK(std::abs(values[i] - expected) <= 4 * epsilon_of(dtype) * std::abs(expected));
    }
    const Moments m = moments(values);
    CHECK(std::abs(m.mean) <= 0.03);
    CHECK(std::abs(m.variance - 1) <= 0.05);
  }
}

TEST_CASE("random_integers kernel: in range, every value, extremes of the range") {
  for (const DType dtype : {DType::i64, DType::i32}) {
    const Tensor out = empty({7000}, dtype);
    backend_of(out).random_integers(kState, -3, 4, out);
    std::vector<int> counts(7, 0);
    for (const int64_t x : out.to_vector<int64_t>()) {
      REQUIRE(x >= -3);
      REQUIRE(x < 4);
      ++counts[static_cast<size_t>(x + 3)];
    }
    for (const int count : counts) {
      CHECK(std::abs(count - 1000) <= 150);  // five standard deviations
    }
  }
  const Tensor wide = empty({1000}, DType::i64);
  backend_of(wide).random_integers(kState, INT64_MIN, INT64_MAX, wide);
  const std::vector<int64_t> values = wide.to_vector<int64_t>();
  CHECK(*std::min_element(values.begin(), values.end()) < INT64_MIN / 2);
  CHECK(*std::max_element(values.begin(), values.end()) > INT64_MAX / 2);
  const Tensor one = empty({10}, DType::i32);
  backend_of(one).random_integers(kState, 5, 6, one);
  CHECK(one.to_vector<int64_t>() == std::vector<int64_t>(10, 5));
}

TEST_CASE("multiply_high: the upper half of a 128-bit product") {
  CHECK(multiply_high(~uint64_t{0}, ~uint64_t{0}) == ~uint64_t{0} - 1);
  CHECK(multiply_high(uint64_t{1} << 63, 2) == 1);
  CHECK(multiply_high(0x123456789abcdef0, 0xfedcba9876543210) == 0x121fa00ad77d7422);
  CHECK(multiply_high(0xffffffff, 0xffffffff) == 0);
}

TEST_CASE("random kernels: the same bits from any number of threads, and a stream continues where it was left") {
  constexpr int64_t kCount = 20000;
  const int threads = omp_get_max_threads();
  std::vector<std::vector<double>> results;
  for (const int count : {1, 2, 3}) {
    omp_set_num_threads(count);
    const Tensor out = empty({kCount}, DType::f32);
    backend_of(out).normal(kState, out);
    results.push_back(out.to_vector<double>());
  }
  omp_set_num_threads(threads);
  CHECK(results[0] == results[1]);
  CHECK(results[0] == results[2]);
  const Tensor rest = empty({kCount - 100}, DType::f32);
  backend_of(rest).normal({kState.seed, kState.offset + 100}, rest);
  CHECK(rest.to_vector<double>() == std::vector<double>(results[0].begin() + 100, results[0].end()));
}
