// Mistakes that were made in public KDA code, one test each. A test first shows that the mistake would be seen: plain
// loops that make it give values far from the right ones.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/convert.h"
#include "ops/creation.h"
#include "ops/joining.h"
#include "ops/linalg.h"
#include "ops/views.h"
#include "tests/ops/kda/kda_cases.h"
#include "tests/ops/kda/plain_adjoint.h"

namespace deltatape {
namespace {

using test::find;
using test::KDACase;
using test::make_case;
using test::Mistake;
using test::NamedResults;
using test::plain_adjoint;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

kda::Options with_final_state() {
  kda::Options options;
  options.output_final_state = true;
  return options;
}

bool all_finite(const Tensor& x) {
  const auto values = x.to_vector<double>();
  return std::all_of(values.begin(), values.end(), [](double value) { return std::isfinite(value); });
}

/// Every result within `limit` of the expected one (`gates`: of dg), but for what no normal number of f32 is small
/// enough to show.
void check_all(const test::Implementation& implementation, const KDACase& c, const NamedResults& expected, double limit,
               double gates) {
  CAPTURE(implementation.name);
  const NamedResults actual = run_case(implementation.function, c);
  REQUIRE(actual.size() == expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    const std::string& name = expected[i].first;
    CAPTURE(name);
    const double error = test::max_error(actual[i].second, expected[i].second);
    CAPTURE(error);
    const bool underflow = test::largest_difference(actual[i].second, expected[i].second) <= 0x1p-126;
    CHECK((error <= (name == "dg" ? gates : limit) || underflow));
  }
}

/// All implementations give what plain loops give without a mistake, in f64 and f32, with safe_gate and without.
void check_right(const KDACase& c, double narrow_limit = 1e-5) {
  for (const bool safe_gate : {false, true}) {
    KDACase wide = c;
    wide.options.safe_gate = safe_gate;
    const KDACase narrow = in_dtype(wide, DType::f32);
    const NamedResults expected = plain_adjoint(wide);
    const NamedResults expected_narrow = plain_adjoint(narrow);  // of the numbers as f32 has them
    for (const test::Implementation& implementation : test::implementations()) {
      check_all(implementation, wide, expected, 1e-11, 1e-11);
      check_all(implementation, narrow, expected_narrow, narrow_limit, 1e-4);
    }
  }
}

/// The mistake moves each of these results by more than a thousand times what check_right allows.
void check_visible(const KDACase& c, Mistake mistake, const std::vector<std::string>& names) {
  const NamedResults right = plain_adjoint(c);
  const NamedResults wrong = plain_adjoint(c, mistake);
  for (const std::string& name : names) {
    CAPTURE(name);
    CHECK(test::max_error(find(wrong, name), find(right, name)) >= 0.1);
  }
}

TEST_CASE("kda: not made here: a non-strict mask on dAkk, whose diagonal leaks into dbeta and dk") {
  const KDACase c = make_case({1, 70, 1, 2, 6, 5, {}}, with_final_state(), 101);
  check_visible(c, Mistake::diagonal_in_dM, {"dk", "dbeta"});
  check_right(c);
}

TEST_CASE("kda: not made here: scale missing inside the chunk") {
  kda::Options options = with_final_state();
  options.scale = 0.3;
  const KDACase c = make_case({1, 70, 1, 2, 6, 5, {}}, options, 102);
  check_visible(c, Mistake::unscaled_inside_chunk, {"o"});
  check_right(c);
}

TEST_CASE("kda: not made here: dq and dk without the Jacobian of the L2 norm") {
  kda::Options options = with_final_state();
  options.use_qk_l2norm = true;
  const KDACase c = make_case({1, 40, 2, 4, 6, 5, {}}, options, 103);
  check_visible(c, Mistake::no_norm_jacobian, {"dq", "dk"});
  check_right(c);
}

TEST_CASE("kda: not made here: the gate with heads and time swapped") {
  const KDACase c = make_case({2, 20, 2, 4, 6, 5, {}}, with_final_state(), 104, test::Decay::bounded);
  check_visible(c, Mistake::heads_and_time_swapped, {"o", "ht", "dg"});
  check_right(c);
  // The gate's own parameters, [HV] and [HV, K]: every head and channel has another decay.
  KDACase logits = c;
  logits.options.gate = kda::Gate::standard;
  logits.inputs.A_log = from_vector(std::vector<double>{-2.0, -0.5, 0.3, 1.0});
  std::vector<double> bias;
  bias.reserve(24);
  for (int i = 0; i < 24; ++i) {
    bias.push_back(0.2 * i - 2.0);
  }
  logits.inputs.dt_bias = from_vector(bias);
  KDACase by_hand = c;
  std::vector<double> g = c.inputs.g.to_vector<double>();
  for (size_t i = 0; i < g.size(); ++i) {
    const size_t head = i / 6 % 4;
    const double z = g[i] + bias[head * 6 + i % 6];
    g[i] = -std::exp(logits.inputs.A_log.to_vector<double>()[head]) * std::log1p(std::exp(z));
  }
  by_hand.inputs.g = from_vector(g, c.inputs.g.shape());
  const Tensor expected = find(plain_adjoint(by_hand), "o");
  for (const test::Implementation& implementation : test::implementations()) {
    CHECK(test::max_error(implementation.function(logits.inputs, logits.options).o, expected) <= 1e-12);
  }
}

TEST_CASE("kda: not made here: exp(-cumsum) running over to infinity under strong decay") {
  // 16 steps of -20 are exp(320) for a key at the end of a tile, 64 are exp(1280): infinite in f32 and in f64.
  CHECK(std::isinf(std::exp(20.0F * 16.0F)));
  CHECK(std::isinf(std::exp(20.0 * 64.0)));
  for (const auto decay : {test::Decay::fastest, test::Decay::strong, test::Decay::mixed, test::Decay::resets}) {
    check_right(make_case({1, 130, 1, 1, 6, 5, {}}, with_final_state(), 105, decay));
  }
}

TEST_CASE("kda: not made here: minus infinity as a log decay gives NaN") {
  // exp(-inf) = 0 forgets the channel. -inf - (-inf), which sums of log decays that are subtracted come to, is NaN.
  CHECK(std::isnan(-kInfinity - -kInfinity));
  for (const bool safe_gate : {false, true}) {
    kda::Options options = with_final_state();
    options.safe_gate = safe_gate;
    KDACase c = make_case({1, 70, 1, 2, 6, 5, {}}, options, 106);
    std::vector<double> g = c.inputs.g.to_vector<double>();
    for (size_t i = 0; i < g.size(); i += 7) {
      g[i] = -kInfinity;
    }
    c.inputs.g = from_vector(g, c.inputs.g.shape());
    const NamedResults expected = plain_adjoint(c);
    for (const test::Implementation& implementation : test::implementations()) {
      check_all(implementation, c, expected, 1e-11, 1e-11);
      const NamedResults narrow = run_case(implementation.function, in_dtype(c, DType::f32));
      for (const auto& named : narrow) {
        CAPTURE(named.first);
        CHECK(all_finite(named.second));
        CHECK(test::max_error(named.second, find(expected, named.first)) <= 1e-4);
      }
    }
  }
}

/// A chunk of unit keys without decay, beta 2, as M = diag(beta) N [C,C] in T.
template <class T>
std::vector<T> matrix_of_chunk(const Tensor& keys, int64_t C, T beta) {
  const Tensor k = squeeze(squeeze(keys, 0), 1);  // [T,K]
  const auto products = matmul(k, transpose(k, 0, 1)).to_vector<double>();
  const int64_t steps = k.size(0);
  std::vector<T> M(static_cast<size_t>(C * C));
  for (int64_t i = 0; i < C; ++i) {
    for (int64_t j = 0; j < i; ++j) {
      M[static_cast<size_t>(i * C + j)] = beta * static_cast<T>(products[static_cast<size_t>(i * steps + j)]);
    }
  }
  return M;
}
template <class T>
std::vector<T> product(const std::vector<T>& a, const std::vector<T>& b, int64_t C) {
  std::vector<T> c(a.size());
  for (int64_t i = 0; i < C; ++i) {
    for (int64_t l = 0; l <= i; ++l) {
      for (int64_t j = 0; j <= l; ++j) {
        c[static_cast<size_t>(i * C + j)] += a[static_cast<size_t>(i * C + l)] * b[static_cast<size_t>(l * C + j)];
      }
    }
  }
  return c;
}
/// (I - M)(I + M^2)(I + M^4) .., `factors` factors.
template <class T>
std::vector<T> neumann(const std::vector<T>& M, int64_t C, int factors) {
  const auto plus_identity = [C](std::vector<T> x) {
    for (int64_t i = 0; i < C; ++i) {
      x[static_cast<size_t>(i * C + i)] += T(1);
    }
    return x;
  };
  std::vector<T> negative = M;
  for (T& x : negative) {
    x = -x;
  }
  std::vector<T> inverse = plus_identity(negative);
  std::vector<T> power = M;
  for (int factor = 1; factor < factors; ++factor) {
    power = product(power, power, C);
    inverse = product(inverse, plus_identity(power), C);
  }
  return inverse;
}
/// max |(I + M) A - I|.
template <class T>
double residual(const std::vector<T>& M, const std::vector<T>& A, int64_t C) {
  std::vector<double> wide_M(M.begin(), M.end());
  const std::vector<double> wide_A(A.begin(), A.end());
  for (int64_t i = 0; i < C; ++i) {
    wide_M[static_cast<size_t>(i * C + i)] += 1.0;
  }
  const std::vector<double> identity = product(wide_M, wide_A, C);
  double worst = 0.0;
  for (int64_t i = 0; i < C; ++i) {
    for (int64_t j = 0; j < C; ++j) {
      const double difference = identity[static_cast<size_t>(i * C + j)] - (i == j ? 1.0 : 0.0);
      worst = std::isfinite(difference) ? std::max(worst, std::fabs(difference)) : kInfinity;
    }
  }
  return worst;
}

KDACase correlated(test::Keys keys, double beta, uint64_t seed) {
  KDACase c = make_case({1, 140, 1, 1, 6, 5, {}}, with_final_state(), seed, test::Decay::none, keys);
  c.inputs.beta = full({1, 140, 1}, beta, {DType::f64, Device::cpu()});
  return c;
}

TEST_CASE("kda: not made here: a truncated Neumann series for the triangular inverse") {
  const KDACase c = correlated(test::Keys::few, 1.0, 107);
  const std::vector<double> M = matrix_of_chunk<double>(c.inputs.k, 16, 1.0);
  CHECK(residual(M, neumann(M, 16, 2), 16) > 0.1);     // I - M + M^2 - M^3
  CHECK(residual(M, neumann(M, 16, 4), 16) <= 1e-10);  // all of it
  check_right(c);
}

TEST_CASE("kda: not made here: the Neumann product over 64 rows, or in 16 bits, with near-collinear keys") {
  for (const double beta : {1.0, 2.0}) {
    const KDACase c = correlated(test::Keys::near, beta, 108);
    const std::vector<float> M = matrix_of_chunk<float>(c.inputs.k, 64, static_cast<float>(beta));
    CHECK(residual(M, neumann(M, 64, 6), 64) > 1e3);  // the powers grow to binomial coefficients and do not cancel
    // With beta 2 every step is a reflection and nothing ever fades. The triangular system of a tile then has a
    // condition number of up to (1 + 2 * 15)^2, and f32 keeps 5.7e-5; the worst measured is 1.3e-5, of ht.
    const double limit = beta == 2.0 ? 31.0 * 31.0 * 0x1p-24 : 1e-5;
    for (const auto keys : {test::Keys::near, test::Keys::repeated, test::Keys::few}) {
      check_right(correlated(keys, beta, 108), limit);
    }
    // Tensors in 16 bits, arithmetic in f32: exact for the rounded inputs, up to rounding the results.
    for (const DType dtype : {DType::bf16, DType::f16}) {
      KDACase narrow = in_dtype(c, dtype);
      narrow.inputs.initial_state = to(c.inputs.initial_state, DType::f32);
      narrow.d_ht = to(c.d_ht, DType::f32);
      const NamedResults expected = plain_adjoint(narrow);
      for (const test::Implementation& implementation : test::implementations()) {
        check_all(implementation, narrow, expected, dtype == DType::bf16 ? 0x1p-8 : 0x1p-11, 0x1p-8);
      }
    }
  }
}

TEST_CASE("kda: not made here: future gates in an exponent's reference row") {
  // With the last row of a tile as the reference, the factor of a row before it is exp(-sum of the gates after it).
  CHECK(std::isinf(std::exp(1000.0)));
  KDACase c = make_case({1, 32, 1, 1, 6, 5, {}}, with_final_state(), 109);
  std::vector<double> g = c.inputs.g.to_vector<double>();
  std::fill(g.begin() + 10 * 6, g.begin() + 16 * 6, -1000.0);  // tokens 10 .. 15, the end of a tile
  c.inputs.g = from_vector(g, c.inputs.g.shape());
  check_right(c);
}

TEST_CASE("kda: not made here: a mask applied after exp") {
  // Above the diagonal exp(G_i - G_j) is infinite where the decay is strong, and zero times infinity is NaN, in the
  // gradient also where the product was replaced by zero.
  CHECK(std::isnan(0.0 * std::exp(200.0 * 16.0)));
  KDACase c = make_case({1, 70, 1, 2, 6, 5, {}}, with_final_state(), 110);
  c.inputs.g = full(c.inputs.g.shape(), -200.0, c.inputs.g.options());
  for (const bool safe_gate : {false, true}) {
    c.options.safe_gate = safe_gate;
    for (const test::Implementation& implementation : test::implementations()) {
      for (const DType dtype : {DType::f64, DType::f32}) {
        for (const auto& named : run_case(implementation.function, in_dtype(c, dtype))) {
          CAPTURE(implementation.name);
          CAPTURE(named.first);
          CHECK(all_finite(named.second));
        }
      }
    }
  }
  check_right(c);
}

TEST_CASE("kda: not made here: a state, or its gradient, that does not go on into the next chunk") {
  for (const int64_t T : {65, 130, 200}) {
    const KDACase c = make_case({1, T, 1, 1, 6, 5, {}}, with_final_state(), 111);
    check_visible(c, Mistake::state_lost_at_chunk, {"o", "ht", "dg"});
    check_visible(c, Mistake::gradient_lost_at_chunk, {"dg"});
    check_right(c);
  }
}

TEST_CASE("kda: not made here: gradients that leak over the borders of cu_seqlens, or stop short of them") {
  const KDACase c = make_case({1, 150, 1, 2, 6, 5, {70, 0, 16, 1, 63}}, with_final_state(), 112);
  check_visible(c, Mistake::gradient_leaks_over_sequence, {"dk", "dv", "dg", "dh0"});
  check_visible(c, Mistake::dht_of_the_wrong_sequence, {"dk", "dv", "dg", "dh0"});
  check_visible(c, Mistake::gradient_lost_at_chunk, {"dg"});
  check_right(c);
}

TEST_CASE("kda: not made here: dg by the identity of linear attention, which takes dk as one") {
  const KDACase c = make_case({1, 70, 1, 2, 6, 5, {}}, with_final_state(), 113);
  check_visible(c, Mistake::read_and_write_merged, {"dg"});
  check_right(c);
}

TEST_CASE("kda: not made here: an untested fallback where the midpoint's exponents would run over") {
  // safe_gate is a hint: some tiles lie within [-5, 0], others do not, by one element or by all.
  CHECK(std::isinf(std::exp(20.0F * 8.0F)));  // 8 steps of -20 to either side of the middle
  for (const double outside : {-20.0, -5.0000005, -11.2, -1000.0}) {
    CAPTURE(outside);
    KDACase c = make_case({1, 100, 1, 1, 6, 5, {}}, with_final_state(), 114, test::Decay::bounded);
    std::vector<double> g = c.inputs.g.to_vector<double>();
    std::fill(g.begin() + 16 * 6, g.begin() + 32 * 6, outside);  // the second tile: all of it
    g[50 * 6 + 5] = outside;                                     // the fourth: its last channel, once
    g[99 * 6] = outside;                                         // the last one, which is short
    c.inputs.g = from_vector(g, c.inputs.g.shape());
    check_right(c);
  }
  // Just inside everywhere: the centred form at its widest.
  KDACase widest = make_case({1, 100, 1, 1, 6, 5, {}}, with_final_state(), 115);
  widest.inputs.g = full(widest.inputs.g.shape(), -5.0, widest.inputs.g.options());
  check_right(widest);
}

/// The same elements in the middle of a buffer of NaN: what is read before or after them is seen.
Tensor among_nan(const Tensor& x) {
  const Tensor nan = full({97}, std::nan(""), x.options());
  return reshape(slice(cat({nan, flatten(x), nan}, 0), 0, {97, 97 + x.numel()}), x.shape());
}

TEST_CASE("kda: not made here: reads past K or V where they are no power of two") {
  struct Row {
    int64_t K;
    int64_t V;
    int64_t T;
  };
  for (const Row& row : {Row{1, 1, 5}, Row{3, 5, 17}, Row{7, 9, 16}, Row{17, 33, 18}, Row{33, 15, 33}, Row{65, 2, 7},
                         Row{100, 129, 5}, Row{127, 31, 17}}) {
    CAPTURE(row.K);
    CAPTURE(row.V);
    for (const bool v_first : {false, true}) {
      for (const DType dtype : {DType::f64, DType::f32, DType::bf16}) {
        kda::Options options = with_final_state();
        options.state_v_first = v_first;
        options.gate = kda::Gate::standard;
        options.use_qk_l2norm = true;
        options.use_beta_sigmoid = true;
        options.save_intermediates = v_first;
        const KDACase c = in_dtype(make_case({1, row.T, 1, 2, row.K, row.V, {}}, options, 116), dtype);
        KDACase poisoned = c;
        kda::Inputs& in = poisoned.inputs;
        for (Tensor* x : {&in.q, &in.k, &in.v, &in.g, &in.beta, &in.A_log, &in.dt_bias, &in.initial_state,
                          &poisoned.d_o, &poisoned.d_ht}) {
          *x = among_nan(*x);
          CHECK(x->is_contiguous());  // so it is read where it stands
        }
        for (const test::Implementation& implementation : test::implementations()) {
          CAPTURE(implementation.name);
          const NamedResults expected = run_case(implementation.function, c);
          const NamedResults actual = run_case(implementation.function, poisoned);
          for (size_t i = 0; i < actual.size(); ++i) {
            CAPTURE(expected[i].first);
            CHECK(all_finite(actual[i].second));
            CHECK(test::same_bits(actual[i].second, expected[i].second));
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace deltatape
