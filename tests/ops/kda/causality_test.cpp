// What comes later changes nothing before it: outputs up to a token, and the gradients of a loss on them.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "ops/convert.h"
#include "ops/views.h"
#include "tests/ops/kda/kda_cases.h"

namespace deltatape {
namespace {

using test::KDACase;
using test::make_case;

constexpr int64_t kSteps = 131;

/// Around the borders of tiles (16) and chunks (16, 32, 64).
const std::vector<int64_t>& borders() {
  static const std::vector<int64_t> all{0,  1,  7,  14, 15, 16, 17, 30, 31,  32,  33,  46,  47, 48,
                                        49, 62, 63, 64, 65, 79, 80, 95, 111, 126, 127, 128, 129};
  return all;
}

/// What stands after token t instead: other ordinary numbers, or one number for one tensor.
struct Change {
  std::string what = "other numbers";
  std::string tensor = {};  // one only; empty: q, k, v, g and beta
  double value = 0.0;
};

/// The case with the tokens after t changed. The loss looks at outputs up to t, before and after.
KDACase with_other_future(const KDACase& c, int64_t t, const Change& change) {
  KDACase changed = c;
  kda::Inputs& in = changed.inputs;
  const std::vector<std::pair<std::string, Tensor*>> tensors{
      {"q", &in.q}, {"k", &in.k}, {"v", &in.v}, {"g", &in.g}, {"beta", &in.beta}};
  for (const auto& named : tensors) {
    if (!change.tensor.empty() && change.tensor != named.first) {
      continue;
    }
    Tensor& x = *named.second;
    std::vector<double> values = x.to_vector<double>();
    const auto step = static_cast<size_t>(x.numel() / x.size(1));
    for (size_t i = static_cast<size_t>(t + 1) * step; i < values.size(); ++i) {
      values[i] = change.tensor.empty() ? 0.7 * values[i] - 0.03 * static_cast<double>(i % 7) : change.value;
    }
    x = to(from_vector(values, x.shape()), x.dtype());
  }
  return changed;
}

/// d_o with zeros after t.
Tensor loss_up_to(const Tensor& d_o, int64_t t) {
  std::vector<double> values = d_o.to_vector<double>();
  const auto step = values.size() / static_cast<size_t>(d_o.size(1));
  std::fill(values.begin() + static_cast<std::ptrdiff_t>(static_cast<size_t>(t + 1) * step), values.end(), 0.0);
  return to(from_vector(values, d_o.shape()), d_o.dtype());
}

/// The part of a result that must not feel what comes after t; states and parameters as a whole.
Tensor up_to(const std::string& name, const Tensor& x, int64_t t) {
  const bool per_token = name != "dh0" && name != "dA_log" && name != "ddt_bias";
  return per_token ? slice(x, 1, {0, t + 1}) : x;
}

/// A case in one batch row; `options.gate` as given.
KDACase one_row(const kda::Options& options, uint64_t seed, test::Decay decay) {
  return make_case({1, kSteps, 1, 2, 5, 3, {}}, options, seed, decay);
}

void check_unchanged(const test::Implementation& implementation, const KDACase& c, int64_t t, const Change& change) {
  CAPTURE(implementation.name);
  CAPTURE(t);
  CAPTURE(change.what);
  CAPTURE(change.tensor);
  KDACase before = c;
  before.d_o = loss_up_to(c.d_o, t);
  const test::NamedResults expected = run_case(implementation.function, before);
  const test::NamedResults actual = run_case(implementation.function, with_other_future(before, t, change));
  if (change.tensor.empty()) {
    CHECK_FALSE(test::same_bits(test::find(actual, "o"), test::find(expected, "o")));  // the change was seen
  }
  for (size_t i = 0; i < expected.size(); ++i) {
    const std::string& name = expected[i].first;
    CAPTURE(name);
    CHECK(test::same_bits(up_to(name, actual[i].second, t), up_to(name, expected[i].second, t)));
  }
}

TEST_CASE("kda: causality to the bit at every border of tiles and chunks, forward and backward [slow]") {
  for (const auto decay : {test::Decay::mild, test::Decay::blocks}) {
    const KDACase c = one_row({}, 71, decay);
    for (const test::Implementation& implementation : test::implementations()) {
      for (const int64_t t : borders()) {
        check_unchanged(implementation, c, t, {});
        check_unchanged(implementation, in_dtype(c, DType::f32), t, {});
      }
    }
  }
}

TEST_CASE("kda: causality to the bit with the gate, the norm and the sigmoid in the operator, and other chunk sizes") {
  kda::Options options;
  options.gate = kda::Gate::standard;
  options.use_qk_l2norm = true;
  options.use_beta_sigmoid = true;
  options.allow_neg_eigval = true;
  options.save_intermediates = true;
  for (const int64_t chunk_size : {16, 32}) {
    options.chunk_size = chunk_size;
    const KDACase c = one_row(options, 72, test::Decay::mild);
    for (const test::Implementation& implementation : test::implementations()) {
      for (const int64_t t : {15, 16, 40, 63, 64}) {
        check_unchanged(implementation, c, t, {});
      }
    }
  }
}

/// Outputs alone.
void check_outputs_unchanged(const test::Implementation& implementation, const KDACase& c, int64_t t,
                             const Change& change) {
  CAPTURE(implementation.name);
  CAPTURE(t);
  CAPTURE(change.tensor);
  CAPTURE(change.value);
  const Tensor before = implementation.function(c.inputs, c.options).o;
  const Tensor after = implementation.function(with_other_future(c, t, change).inputs, c.options).o;
  CHECK(test::same_bits(up_to("o", before, t), up_to("o", after, t)));
  const bool harmless = change.tensor == "g" && change.value < 0.0;  // exp(-inf) = 0 forgets, and is a number
  if (!std::isfinite(change.value) && !harmless && t + 1 < kSteps) {
    CHECK_FALSE(std::isfinite(test::largest_difference(before, after)));  // the change was seen
  }
}

TEST_CASE("kda: NaN, infinity and huge numbers later change no output before them") {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const std::vector<double> values{std::nan(""), kInfinity, -kInfinity, 1e30, -1e30};
  for (const bool safe_gate : {false, true}) {
    kda::Options options;
    options.safe_gate = safe_gate;
    // Within [-5, 0] at most: changing one tile to the general form must not touch the rows before the change beyond
    // rounding, which is another test's subject. Here tiles are general with and without safe_gate.
    const KDACase c = one_row(options, 73, safe_gate ? test::Decay::fastest : test::Decay::blocks);
    for (const test::Implementation& implementation : test::implementations()) {
      if (!implementation.fused) {
        continue;
      }
      for (const char* tensor : {"q", "k", "v", "g", "beta"}) {
        for (const double value : values) {
          if (std::string(tensor) == "g" && value > 0.0) {
            continue;  // growth is not a log decay
          }
          for (const int64_t t : {0, 6, 15, 16, 40, 63, 64, 100}) {
            check_outputs_unchanged(implementation, c, t, {"a number", tensor, value});
            check_outputs_unchanged(implementation, in_dtype(c, DType::f32), t, {"a number", tensor, value});
          }
        }
      }
    }
  }
}

TEST_CASE("kda: huge numbers later change no gradient of a loss before them") {
  // As large as they can be without the forward pass running over to infinity, which times an upstream zero is NaN by
  // the rules of arithmetic, in every implementation.
  const KDACase c = one_row({}, 74, test::Decay::blocks);
  for (const test::Implementation& implementation : test::implementations()) {
    for (const int64_t t : {0, 15, 16, 40, 63, 64, 100, 127}) {
      check_unchanged(implementation, c, t, {"a number", "v", 1e100});
      check_unchanged(implementation, c, t, {"a number", "q", -1e100});
      check_unchanged(implementation, c, t, {"a number", "g", -1e300});
      check_unchanged(implementation, c, t, {"a number", "g", -std::numeric_limits<double>::infinity()});
      check_unchanged(implementation, c, t, {"a number", "beta", 0.0});
      check_unchanged(implementation, c, t, {"a number", "k", 0.0});
    }
  }
}

/// The largest difference in what must not feel the future, in units of the largest element.
double worst_change(const test::NamedResults& actual, const test::NamedResults& expected, int64_t t) {
  double worst = 0.0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const std::string& name = expected[i].first;
    worst = std::max(worst, test::max_error(up_to(name, actual[i].second, t), up_to(name, expected[i].second, t)));
  }
  return worst;
}

TEST_CASE("kda: with safe_gate later gates change what is before them by rounding, in their own tile only") {
  // A centred tile measures exponents from its row 7, so up to there the decays of rows before t contain gates after t,
  // which cancel. An exponent reaches 8 * 5 = 40 and is a sum of up to 8 rounded terms: both factors of a pair are off
  // by at most 8 * 40 unit roundoffs, products of matrices add their own. 200 unit roundoffs bound it all.
  kda::Options options;
  options.safe_gate = true;
  const KDACase wide = one_row(options, 75, test::Decay::bounded);
  KDACase other = wide;
  other.inputs.g = one_row(options, 76, test::Decay::bounded).inputs.g;  // within [-5, 0] too
  const test::Implementation fused_chunk = test::implementations()[3];
  for (const DType dtype : {DType::f64, DType::f32}) {
    const double roundoff = dtype == DType::f64 ? 0x1p-53 : 0x1p-24;
    bool changed_inside = false;
    for (const int64_t t : borders()) {
      CAPTURE(t);
      KDACase before = in_dtype(wide, dtype);
      before.d_o = loss_up_to(before.d_o, t);
      KDACase after = before;
      std::vector<double> g = before.inputs.g.to_vector<double>();
      const std::vector<double> others = in_dtype(other, dtype).inputs.g.to_vector<double>();
      const auto changed = static_cast<std::ptrdiff_t>((t + 1) * 2 * 5);
      std::copy(others.begin() + changed, others.end(), g.begin() + changed);
      after.inputs.g = to(from_vector(g, before.inputs.g.shape()), dtype);
      const double change =
          worst_change(run_case(fused_chunk.function, after), run_case(fused_chunk.function, before), t);
      CAPTURE(change);
      CHECK(change <= 200.0 * roundoff);
      if (t % 16 >= 7) {
        CHECK(change == 0.0);  // nothing after row 7 is in an exponent of a row before it
      } else {
        changed_inside = changed_inside || change > 0.0;
      }
    }
    CHECK(changed_inside);  // so the bound is needed
  }
}

TEST_CASE("kda: with safe_gate a later gate outside of [-5, 0] changes what is before it by rounding") {
  // The whole tile takes the general form then.
  kda::Options options;
  options.safe_gate = true;
  const KDACase c = one_row(options, 77, test::Decay::bounded);
  const test::Implementation fused_chunk = test::implementations()[3];
  for (const int64_t t : {0, 7, 14, 15, 20, 63, 64, 100}) {
    for (const double value : {-20.0, -std::numeric_limits<double>::infinity()}) {
      CAPTURE(t);
      CAPTURE(value);
      KDACase before = c;
      before.d_o = loss_up_to(c.d_o, t);
      const KDACase after = with_other_future(before, t, {"a number", "g", value});
      const double change =
          worst_change(run_case(fused_chunk.function, after), run_case(fused_chunk.function, before), t);
      CAPTURE(change);
      CHECK(change <= 200.0 * 0x1p-53);
      CHECK((change == 0.0) == (t % 16 == 15));
    }
  }
}

}  // namespace
}  // namespace deltatape
