// segment_ids in the composed forms, held against separate calls per segment.
#include "ops/kda/segments.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "ops/convert.h"
#include "ops/creation.h"
#include "ops/joining.h"
#include "ops/kda/chunk.h"
#include "ops/kda/recurrent.h"
#include "ops/views.h"
#include "tests/ops/kda/kda_cases.h"

namespace deltatape {
namespace {

using test::KDACase;
using test::make_case;

/// Three rows of 37: one segment; an id that comes back; negative ids, segments of one token and a long tail.
std::vector<int64_t> many_ids() {
  std::vector<int64_t> ids(37, 5);
  for (int64_t t = 0; t < 37; ++t) {
    ids.push_back(t < 10 ? 1 : (t < 27 ? 2 : 1));
  }
  for (int64_t t = 0; t < 37; ++t) {
    ids.push_back(t < 3 ? -1 : (t < 8 ? t : -1));
  }
  return ids;
}

KDACase with_ids(KDACase c, const std::vector<int64_t>& ids, DType dtype) {
  c.inputs.segment_ids = to(from_vector(ids, {c.inputs.q.size(0), c.inputs.q.size(1)}), dtype);
  return c;
}

/// Every segment by a call of its own, put together again.
kda::Output split_by_hand(const kda::Inputs& in, const kda::Options& options) {
  const int64_t B = in.q.size(0);
  const int64_t T = in.q.size(1);
  const auto ids = in.segment_ids.to_vector<int64_t>();
  std::vector<Tensor> rows;
  std::vector<Tensor> final_states;
  for (int64_t b = 0; b < B; ++b) {
    std::vector<Tensor> pieces;
    for (int64_t begin = 0; begin < T;) {
      int64_t end = begin + 1;
      while (end < T && ids[static_cast<size_t>(b * T + end)] == ids[static_cast<size_t>(b * T + end - 1)]) {
        ++end;
      }
      const auto piece = [&](const Tensor& x) { return slice(slice(x, 0, {b, b + 1}), 1, {begin, end}); };
      kda::Inputs part;
      part.q = piece(in.q);
      part.k = piece(in.k);
      part.v = piece(in.v);
      part.g = piece(in.g);
      part.beta = piece(in.beta);
      part.A_log = in.A_log;
      part.dt_bias = in.dt_bias;
      if (begin == 0 && in.initial_state.defined()) {
        part.initial_state = slice(in.initial_state, 0, {b, b + 1});
      }
      const kda::Output out = kda::recurrent(part, options);
      pieces.push_back(out.o);
      if (end == T && options.output_final_state) {
        final_states.push_back(out.final_state);
      }
      begin = end;
    }
    rows.push_back(cat(pieces, 1));
  }
  kda::Output out;
  out.o = cat(rows, 0);
  out.final_state = options.output_final_state ? cat(final_states, 0) : Tensor();
  return out;
}

kda::Options with_final_state() {
  kda::Options options;
  options.output_final_state = true;
  options.chunk_size = 16;
  return options;
}

void check_against_hand(const KDACase& c) {
  const test::NamedResults expected = run_case(&split_by_hand, c);
  for (const auto function : {&kda::recurrent, &kda::chunk}) {
    const test::NamedResults actual = run_case(function, c);
    REQUIRE(actual.size() == expected.size());
    for (size_t i = 0; i < actual.size(); ++i) {
      CAPTURE(expected[i].first);
      CHECK(actual[i].first == expected[i].first);
      CHECK(test::relative_error(actual[i].second, expected[i].second) <= 1e-12);
    }
  }
}

TEST_CASE("kda: segment_ids equal separate calls per segment, gradients included") {
  for (const DType dtype : {DType::i64, DType::i32}) {
    for (const auto decay : {test::Decay::mild, test::Decay::mixed}) {
      check_against_hand(
          with_ids(make_case({3, 37, 2, 4, 4, 3, {}}, with_final_state(), 51, decay), many_ids(), dtype));
    }
  }
}

TEST_CASE("kda: segment_ids with the gate, the norm and the sigmoid in the operator, states value first") {
  kda::Options options = with_final_state();
  options.gate = kda::Gate::lower_bound;
  options.use_qk_l2norm = true;
  options.use_beta_sigmoid = true;
  options.allow_neg_eigval = true;
  options.state_v_first = true;
  check_against_hand(with_ids(make_case({3, 37, 1, 2, 4, 3, {}}, options, 52), many_ids(), DType::i64));
}

TEST_CASE("kda: segment_ids without a state, without a final state, and with one token") {
  kda::Options options = with_final_state();
  check_against_hand(
      with_ids(make_case({3, 37, 1, 1, 4, 3, {}}, options, 53, test::Decay::bounded, test::Keys::random, false),
               many_ids(), DType::i64));
  check_against_hand(with_ids(make_case({2, 1, 1, 1, 4, 3, {}}, options, 54), {7, -7}, DType::i32));
  options.output_final_state = false;
  check_against_hand(with_ids(make_case({3, 37, 1, 1, 4, 3, {}}, options, 55), many_ids(), DType::i64));
}

TEST_CASE("kda: one segment per row is no segmentation") {
  const KDACase c = make_case({2, 33, 1, 2, 4, 3, {}}, with_final_state(), 56);
  const KDACase segmented = with_ids(c, std::vector<int64_t>(66, 3), DType::i64);
  for (const auto function : {&kda::recurrent, &kda::chunk}) {
    const test::NamedResults expected = run_case(function, c);
    const test::NamedResults actual = run_case(function, segmented);
    for (size_t i = 0; i < actual.size(); ++i) {
      CAPTURE(expected[i].first);
      CHECK(test::relative_error(actual[i].second, expected[i].second) <= 1e-13);
    }
  }
}

/// The entries of [B,T,..] that belong to row b and the tokens [begin, end).
std::vector<double> part_of(const Tensor& x, int64_t b, int64_t begin, int64_t end) {
  return slice(slice(x, 0, {b, b + 1}), 1, {begin, end}).to_vector<double>();
}
bool all_zero(const std::vector<double>& values) {
  return std::all_of(values.begin(), values.end(), [](double value) { return value == 0.0; });
}

TEST_CASE("kda: nothing leaks across a segment border, forward or backward") {
  // Row 1 of many_ids: [0,10), [10,27), [27,37).
  const KDACase c = with_ids(make_case({3, 37, 1, 1, 4, 3, {}}, with_final_state(), 57), many_ids(), DType::i64);
  for (const auto function : {&kda::recurrent, &kda::chunk}) {
    const kda::Output before = function(c.inputs, c.options);
    KDACase changed = c;
    for (Tensor* x :
         {&changed.inputs.q, &changed.inputs.k, &changed.inputs.v, &changed.inputs.g, &changed.inputs.beta}) {
      std::vector<double> values = x->to_vector<double>();
      const size_t step = values.size() / (3 * 37);
      for (size_t i = (37 + 10) * step; i < (37 + 27) * step; ++i) {
        values[i] = 0.5 * values[i] - 0.25;
      }
      *x = from_vector(values, x->shape());
    }
    const kda::Output after = function(changed.inputs, changed.options);
    CHECK(part_of(before.o, 0, 0, 37) == part_of(after.o, 0, 0, 37));
    CHECK(part_of(before.o, 1, 0, 10) == part_of(after.o, 1, 0, 10));
    CHECK(part_of(before.o, 1, 10, 27) != part_of(after.o, 1, 10, 27));
    CHECK(part_of(before.o, 1, 27, 37) == part_of(after.o, 1, 27, 37));
    CHECK(part_of(before.o, 2, 0, 37) == part_of(after.o, 2, 0, 37));
    CHECK(before.final_state.to_vector<double>() == after.final_state.to_vector<double>());

    // A loss on the outputs of [10,27) alone.
    KDACase middle = c;
    std::vector<double> d_o(c.d_o.to_vector<double>().size(), 0.0);
    std::fill(d_o.begin() + (37 + 10) * 3, d_o.begin() + (37 + 27) * 3, 1.0);
    middle.d_o = from_vector(d_o, c.d_o.shape());
    middle.d_ht = zeros_like(c.d_ht);
    for (const auto& named : run_case(function, middle)) {
      const std::string& name = named.first;
      const Tensor& value = named.second;
      CAPTURE(name);
      if (name == "dh0") {
        CHECK(all_zero(value.to_vector<double>()));
      } else if (name != "o" && name != "ht") {
        CHECK(all_zero(part_of(value, 0, 0, 37)));
        CHECK(all_zero(part_of(value, 1, 0, 10)));
        CHECK_FALSE(all_zero(part_of(value, 1, 10, 27)));
        CHECK(all_zero(part_of(value, 1, 27, 37)));
        CHECK(all_zero(part_of(value, 2, 0, 37)));
      }
    }
  }
}

TEST_CASE("kda: dh0 comes from the first segment only, and dht reaches the last one only") {
  const KDACase c = with_ids(make_case({3, 37, 1, 1, 4, 3, {}}, with_final_state(), 58), many_ids(), DType::i64);
  KDACase state_only = c;
  state_only.d_o = zeros_like(c.d_o);
  for (const auto function : {&kda::recurrent, &kda::chunk}) {
    for (const auto& named : run_case(function, state_only)) {
      const std::string& name = named.first;
      const Tensor& value = named.second;
      CAPTURE(name);
      if (name == "dk" || name == "dv" || name == "dg") {
        CHECK_FALSE(all_zero(part_of(value, 0, 0, 37)));
        CHECK(all_zero(part_of(value, 1, 0, 27)));
        CHECK_FALSE(all_zero(part_of(value, 1, 27, 37)));
        CHECK(all_zero(part_of(value, 2, 0, 8)));
        CHECK_FALSE(all_zero(part_of(value, 2, 8, 37)));
      }
      if (name == "dh0") {  // only row 0 has its first segment as its last
        CHECK_FALSE(all_zero(slice(value, 0, {0, 1}).to_vector<double>()));
        CHECK(all_zero(slice(value, 0, {1, 3}).to_vector<double>()));
      }
    }
    const test::NamedResults all = run_case(function, c);
    CHECK(all.back().first == "dh0");
    for (int64_t b = 0; b < 3; ++b) {
      CHECK_FALSE(all_zero(slice(all.back().second, 0, {b, b + 1}).to_vector<double>()));
    }
  }
}

TEST_CASE("kda: segment_ids without tokens or without rows") {
  for (const auto function : {&kda::recurrent, &kda::chunk}) {
    const KDACase c = with_ids(make_case({2, 0, 1, 2, 3, 4, {}}, with_final_state(), 59), {}, DType::i64);
    for (const auto& named : run_case(function, c)) {
      if (named.first == "ht") {
        CHECK(test::largest_difference(named.second, c.inputs.initial_state) == 0.0);
      } else if (named.first == "dh0") {
        CHECK(test::largest_difference(named.second, c.d_ht) == 0.0);
      } else {
        CHECK(named.second.numel() == 0);
      }
    }
    const KDACase no_rows = with_ids(make_case({0, 5, 1, 2, 3, 4, {}}, with_final_state(), 60), {}, DType::i32);
    const kda::Output out = function(no_rows.inputs, no_rows.options);
    CHECK(out.o.shape() == Shape{0, 5, 2, 4});
    CHECK(out.final_state.shape() == Shape{0, 2, 3, 4});
  }
}

}  // namespace
}  // namespace deltatape
