#include "ops/kda/chunk.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "ops/convert.h"
#include "ops/kda/recurrent.h"
#include "tests/ops/kda/kda_cases.h"

namespace deltatape {
namespace {

using test::Decay;
using test::KDACase;
using test::KDAShape;
using test::Keys;
using test::make_case;

/// Every tensor of the chunk form against the recurrence.
void check_agreement(const KDACase& c, double limit) {
  const test::NamedResults expected = run_case(&kda::recurrent, c);
  const test::NamedResults actual = run_case(&kda::chunk, c);
  REQUIRE(actual.size() == expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    CAPTURE(expected[i].first);
    CHECK(actual[i].first == expected[i].first);
    const double error = test::relative_error(actual[i].second, expected[i].second);
    // Where a gradient is exactly zero (dg of a first step without a state) only rounding is left.
    CHECK((error <= limit || test::largest_difference(actual[i].second, expected[i].second) <= 1e-13));
  }
}

kda::Options plain(int64_t chunk_size) {
  kda::Options options;
  options.output_final_state = true;
  options.chunk_size = chunk_size;
  return options;
}

TEST_CASE("kda::chunk: equals the recurrence for every kind of decay and key, gradients included") {
  for (const Decay decay : {Decay::none, Decay::mild, Decay::bounded, Decay::strong, Decay::mixed, Decay::resets}) {
    for (const Keys keys : {Keys::random, Keys::repeated}) {
      CAPTURE(static_cast<int>(decay));
      CAPTURE(static_cast<int>(keys));
      check_agreement(make_case({1, 41, 1, 2, 6, 5, {}}, plain(16), 23, decay, keys), 1e-10);
    }
  }
}

TEST_CASE("kda::chunk: equals the recurrence at lengths around the chunk size") {
  for (const int64_t C : {16, 32, 64}) {
    for (const int64_t T : {int64_t{1}, int64_t{2}, C - 1, C, C + 1, int64_t{67}}) {
      CAPTURE(C);
      CAPTURE(T);
      check_agreement(make_case({2, T, 1, 1, 4, 3, {}}, plain(C), 29, Decay::mixed), 1e-10);
    }
  }
}

TEST_CASE("kda::chunk: equals the recurrence under every option") {
  for (const kda::Gate gate : {kda::Gate::none, kda::Gate::standard, kda::Gate::lower_bound}) {
    for (int bits = 0; bits < 32; ++bits) {
      kda::Options options = plain(16);
      options.gate = gate;
      options.use_qk_l2norm = (bits & 1) != 0;
      options.use_beta_sigmoid = (bits & 2) != 0;
      options.allow_neg_eigval = options.use_beta_sigmoid && (bits & 4) != 0;
      options.state_v_first = (bits & 8) != 0;
      options.output_final_state = (bits & 16) != 0;
      if ((bits & 1) != 0) {
        options.scale = 0.7;
      }
      CAPTURE(static_cast<int>(gate));
      CAPTURE(bits);
      KDACase c = make_case({1, 19, 1, 2, 4, 3, {}}, options, 31, Decay::mild, Keys::random, (bits & 3) != 3);
      if (gate == kda::Gate::lower_bound && (bits & 2) != 0) {
        c.inputs.A_log = Tensor();
      }
      if (gate != kda::Gate::none && (bits & 4) != 0) {
        c.inputs.dt_bias = Tensor();
      }
      check_agreement(c, 1e-10);
    }
  }
}

TEST_CASE("kda::chunk: equals the recurrence on packed sequences") {
  const std::vector<std::vector<int64_t>> packs{{41}, {16, 16, 32}, {1, 17, 0, 40, 0, 5}, {0, 0, 3}, {2, 33, 20, 64}};
  for (const auto& lengths : packs) {
    int64_t T = 0;
    for (const int64_t length : lengths) {
      T += length;
    }
    CAPTURE(T);
    for (const bool v_first : {false, true}) {
      kda::Options options = plain(16);
      options.state_v_first = v_first;
      check_agreement(make_case({1, T, 1, 2, 4, 3, lengths}, options, 37, Decay::bounded), 1e-10);
      options.output_final_state = false;
      check_agreement(make_case({1, T, 1, 2, 4, 3, lengths}, options, 37, Decay::bounded, Keys::random, false), 1e-10);
    }
  }
}

TEST_CASE("kda::chunk: the gradient of strong decay is accurate element by element") {
  // Each dg_t carries a factor exp(g_t); a gradient formed as a difference of sums would have no digits left here.
  const KDACase c = make_case({1, 70, 1, 1, 6, 5, {}}, plain(64), 43, Decay::strong);
  const auto gradient_of_g = [&c](test::KDAFunction function) {
    for (const auto& [name, value] : run_case(function, c)) {
      if (name == "dg") {
        return value.to_vector<double>();
      }
    }
    return std::vector<double>();
  };
  const auto expected = gradient_of_g(&kda::recurrent);
  const auto actual = gradient_of_g(&kda::chunk);
  REQUIRE(actual.size() == 70 * 6);
  for (size_t i = 0; i < actual.size(); ++i) {
    CHECK(std::fabs(actual[i] - expected[i]) <= 1e-9 * std::fabs(expected[i]));
  }
}

TEST_CASE("kda::chunk: a log decay of minus infinity forgets everything before it") {
  KDACase c = make_case({1, 40, 1, 1, 4, 3, {}}, plain(16), 47);
  std::vector<double> g = c.inputs.g.to_vector<double>();
  for (const size_t step : {size_t{0}, size_t{7}, size_t{16}, size_t{39}}) {
    for (size_t channel = 0; channel < 4; ++channel) {
      g[step * 4 + channel] = -std::numeric_limits<double>::infinity();
    }
  }
  c.inputs.g = from_vector(g, c.inputs.g.shape());
  check_agreement(c, 1e-10);
}

TEST_CASE("kda::chunk: f32 stays near f64 where decay is strong or absent") {
  for (const Decay decay : {Decay::none, Decay::bounded, Decay::strong, Decay::mixed, Decay::resets}) {
    CAPTURE(static_cast<int>(decay));
    const KDACase exact = make_case({1, 130, 1, 1, 16, 16, {}}, plain(64), 41, decay);
    KDACase rounded = exact;
    for (Tensor* x : {&rounded.inputs.q, &rounded.inputs.k, &rounded.inputs.v, &rounded.inputs.g, &rounded.inputs.beta,
                      &rounded.inputs.initial_state, &rounded.d_o, &rounded.d_ht}) {
      *x = to(*x, DType::f32);
    }
    KDACase widened = rounded;  // the reference sees the rounded inputs
    for (Tensor* x : {&widened.inputs.q, &widened.inputs.k, &widened.inputs.v, &widened.inputs.g, &widened.inputs.beta,
                      &widened.inputs.initial_state, &widened.d_o, &widened.d_ht}) {
      *x = to(*x, DType::f64);
    }
    const test::NamedResults expected = run_case(&kda::recurrent, widened);
    const test::NamedResults actual = run_case(&kda::chunk, rounded);
    for (size_t i = 0; i < actual.size(); ++i) {
      CAPTURE(expected[i].first);
      CHECK(test::relative_error(actual[i].second, expected[i].second) <= 2e-5);
    }
  }
}

}  // namespace
}  // namespace deltatape
