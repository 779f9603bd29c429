#include "core/generator.h"

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

using namespace deltatape;

TEST_CASE("Generator: the same seed gives the same stream, another seed another one") {
  Generator a(1);
  Generator b(1);
  Generator c(2);
  int equal = 0;
  for (int i = 0; i < 100; ++i) {
    const uint64_t x = a.next_u64();
    CHECK(x == b.next_u64());
    equal += static_cast<int>(x == c.next_u64());
  }
  CHECK(equal == 0);
}

TEST_CASE("Generator: every draw uses one element, and a state can be put back") {
  Generator generator(3);
  static_cast<void>(generator.next_u64());
  static_cast<void>(generator.next_uniform());
  static_cast<void>(generator.next_below((uint64_t{1} << 63) + 1));  // rejects almost every second number
  CHECK(generator.state().offset == 3);
  const PhiloxState start = generator.advance(10);
  CHECK(start.offset == 3);
  CHECK(generator.state().offset == 13);
  const uint64_t next = generator.next_u64();
  generator.set_state({3, 13});
  CHECK(generator.next_u64() == next);
  const auto words = philox_words(3, 13);
  CHECK(next == (words[0] | (uint64_t{words[1]} << 32)));
}

TEST_CASE("next_uniform: 53 bits in [0, 1)") {
  Generator generator(4);
  double sum = 0;
  bool beyond_f32 = false;
  for (int i = 0; i < 10000; ++i) {
    const double x = generator.next_uniform();
    REQUIRE(x >= 0.0);
    REQUIRE(x < 1.0);
    sum += x;
    beyond_f32 = beyond_f32 || static_cast<double>(static_cast<float>(x)) != x;
  }
  CHECK(std::abs(sum / 10000 - 0.5) <= 0.015);
  CHECK(beyond_f32);
}

TEST_CASE("next_below: in range, every value equally often, also where 2^64 leaves a large remainder") {
  Generator generator(5);
  std::vector<int> counts(6, 0);
  for (int i = 0; i < 6000; ++i) {
    ++counts.at(generator.next_below(6));
  }
  for (const int count : counts) {
    CHECK(std::abs(count - 1000) <= 150);
  }
  CHECK(generator.next_below(1) == 0);
  // Of a range of 3/4 2^64, a remainder without rejection would give the lowest third twice the share of the others.
  constexpr uint64_t kBound = uint64_t{3} << 62;
  int lowest_third = 0;
  for (int i = 0; i < 6000; ++i) {
    const uint64_t x = generator.next_below(kBound);
    REQUIRE(x < kBound);
    lowest_third += static_cast<int>(x < kBound / 3);
  }
  CHECK(std::abs(lowest_third - 2000) <= 190);  // five standard deviations
}
