#include "ops/kda/recurrent.h"

#include <doctest/doctest.h>

#include <cmath>

#include "ops/convert.h"
#include "ops/creation.h"
#include "ops/kda/chunk.h"
#include "ops/views.h"
#include "tests/ops/kda/kda_cases.h"

namespace deltatape {
namespace {

using test::KDACase;
using test::KDAShape;
using test::make_case;

kda::Options with_final_state() {
  kda::Options options;
  options.output_final_state = true;
  return options;
}

TEST_CASE("kda::recurrent: one step by hand") {
  KDACase c;
  c.options = with_final_state();
  c.options.scale = 0.5;
  const auto row = [](std::vector<double> values, const Shape& shape) { return from_vector(values, shape); };
  c.inputs.q = row({1.0, 2.0}, {1, 1, 1, 2});
  c.inputs.k = row({3.0, -1.0}, {1, 1, 1, 2});
  c.inputs.v = row({4.0}, {1, 1, 1, 1});
  c.inputs.g = row({std::log(0.5), 0.0}, {1, 1, 1, 2});
  c.inputs.beta = row({0.25}, {1, 1, 1});
  c.inputs.initial_state = row({2.0, 1.0}, {1, 1, 2, 1});
  // S~ = (1, 1); prediction 3 - 1 = 2; delta 0.25 (4 - 2) = 0.5; S = (1 + 1.5, 1 - 0.5); o = 0.5 (2.5 + 2 * 0.5).
  for (const auto function : {&kda::recurrent, &kda::chunk}) {
    const kda::Output out = function(c.inputs, c.options);
    CHECK(std::fabs(out.o.item() - 1.75) <= 1e-15);
    const auto state = out.final_state.to_vector<double>();
    CHECK(std::fabs(state[0] - 2.5) <= 1e-15);
    CHECK(std::fabs(state[1] - 0.5) <= 1e-15);
  }
}

TEST_CASE("kda::recurrent: equals plain loops") {
  struct Row {
    const char* name;
    KDAShape shape;
    bool v_first;
  };
  const std::vector<Row> rows{
      {"batch of two", {2, 7, 2, 2, 4, 3, {}}, false},
      {"three value heads per key head", {1, 6, 2, 6, 3, 5, {}}, false},
      {"states value first", {2, 5, 1, 2, 4, 3, {}}, true},
      {"packed, with empty sequences and one of length one", {1, 9, 1, 2, 3, 4, {0, 4, 0, 1, 4, 0}}, false},
      {"packed and value first", {1, 5, 1, 1, 3, 2, {2, 3}}, true},
  };
  for (const Row& row : rows) {
    CAPTURE(row.name);
    kda::Options options = with_final_state();
    options.state_v_first = row.v_first;
    for (const bool with_state : {false, true}) {
      const KDACase c = make_case(row.shape, options, 7, test::Decay::mixed, test::Keys::random, with_state);
      const kda::Output expected = test::plain_loops(c);
      for (const auto function : {&kda::recurrent, &kda::chunk}) {
        const kda::Output out = function(c.inputs, c.options);
        CHECK(test::relative_error(out.o, expected.o) <= 1e-13);
        CHECK(test::relative_error(out.final_state, expected.final_state) <= 1e-13);
      }
    }
  }
}

TEST_CASE("kda: without time steps the final state is the initial one, and its gradient passes through") {
  for (const auto function : {&kda::recurrent, &kda::chunk}) {
    const KDACase c = make_case({2, 0, 1, 2, 3, 4, {}}, with_final_state(), 3);
    for (const auto& named : test::run_case(function, c)) {
      const std::string& name = named.first;
      const Tensor& tensor = named.second;
      CAPTURE(name);
      if (name == "ht") {
        CHECK(test::largest_difference(tensor, c.inputs.initial_state) == 0.0);
      } else if (name == "dh0") {
        CHECK(test::largest_difference(tensor, c.d_ht) == 0.0);
      } else {
        CHECK(tensor.numel() == 0);
      }
    }
    const KDACase no_state =
        make_case({2, 0, 1, 2, 3, 4, {}}, with_final_state(), 3, test::Decay::mild, test::Keys::random, false);
    const kda::Output out = function(no_state.inputs, no_state.options);
    CHECK(test::largest_difference(out.final_state, zeros({2, 2, 3, 4})) == 0.0);
  }
}

TEST_CASE("kda: an empty sequence keeps its state, and no sequence feels another") {
  const KDAShape shape{1, 40, 1, 2, 4, 3, {0, 17, 0, 22, 1}};
  KDACase c = make_case(shape, with_final_state(), 11);
  for (const auto function : {&kda::recurrent, &kda::chunk}) {
    const kda::Output before = function(c.inputs, c.options);
    const auto h0 = c.inputs.initial_state.to_vector<double>();
    const auto ht = before.final_state.to_vector<double>();
    const size_t state = 2 * 4 * 3;
    for (const size_t n : {size_t{0}, size_t{2}}) {
      for (size_t i = 0; i < state; ++i) {
        CHECK(ht[n * state + i] == h0[n * state + i]);
      }
    }
    KDACase disturbed = c;
    std::vector<double> v = c.inputs.v.to_vector<double>();
    for (size_t i = 0; i < 17 * 2 * 3; ++i) {
      v[i] += 1000.0;
    }
    disturbed.inputs.v = from_vector(v, c.inputs.v.shape());
    const auto o = before.o.to_vector<double>();
    const auto o_disturbed = function(disturbed.inputs, disturbed.options).o.to_vector<double>();
    for (size_t i = 17 * 2 * 3; i < o.size(); ++i) {
      CHECK(o[i] == o_disturbed[i]);
    }
    CHECK(o[0] != o_disturbed[0]);
  }
}

TEST_CASE("kda: a text in two pieces with the state carried equals one pass") {
  const KDACase whole = make_case({2, 37, 1, 2, 4, 3, {}}, with_final_state(), 5, test::Decay::bounded);
  for (const auto function : {&kda::recurrent, &kda::chunk}) {
    const auto piece = [&whole](int64_t from, int64_t to, const Tensor& state) {
      kda::Inputs in = whole.inputs;
      for (Tensor* x : {&in.q, &in.k, &in.v, &in.g, &in.beta}) {
        *x = slice(*x, 1, {from, to});
      }
      in.initial_state = state;
      return in;
    };
    const kda::Output all = function(whole.inputs, whole.options);
    const kda::Output first = function(piece(0, 21, whole.inputs.initial_state), whole.options);
    const kda::Output second = function(piece(21, 37, first.final_state), whole.options);
    CHECK(test::relative_error(first.o, slice(all.o, 1, {0, 21})) <= 1e-13);
    CHECK(test::relative_error(second.o, slice(all.o, 1, {21, 37})) <= 1e-13);
    CHECK(test::relative_error(second.final_state, all.final_state) <= 1e-13);
  }
}

TEST_CASE("kda: later tokens change nothing before them") {
  const KDACase c = make_case({1, 33, 1, 1, 4, 3, {}}, {}, 9, test::Decay::mixed);
  KDACase changed = c;
  for (Tensor* x : {&changed.inputs.q, &changed.inputs.k, &changed.inputs.v, &changed.inputs.beta}) {
    std::vector<double> values = x->to_vector<double>();
    const size_t step = values.size() / 33;
    for (size_t i = 20 * step; i < values.size(); ++i) {
      values[i] = 0.3 * values[i] + 0.1;
    }
    *x = from_vector(values, x->shape());
  }
  for (const auto function : {&kda::recurrent, &kda::chunk}) {
    const auto o = function(c.inputs, c.options).o.to_vector<double>();
    const auto o_changed = function(changed.inputs, changed.options).o.to_vector<double>();
    for (size_t i = 0; i < 20 * 3; ++i) {
      CHECK(o[i] == o_changed[i]);
    }
    CHECK(o[20 * 3] != o_changed[20 * 3]);
  }
}

TEST_CASE("kda: 16-bit inputs are computed in f32, and the output comes back in their dtype") {
  KDACase c = make_case({1, 20, 1, 1, 8, 8, {}}, with_final_state(), 13);
  for (Tensor* x : {&c.inputs.q, &c.inputs.k, &c.inputs.v, &c.inputs.g, &c.inputs.beta}) {
    *x = to(*x, DType::bf16);
  }
  c.inputs.initial_state = to(c.inputs.initial_state, DType::f32);
  for (const auto function : {&kda::recurrent, &kda::chunk}) {
    const kda::Output out = function(c.inputs, c.options);
    CHECK(out.o.dtype() == DType::bf16);
    CHECK(out.final_state.dtype() == DType::f32);
    const kda::Output expected = test::plain_loops(c);
    CHECK(test::relative_error(out.o, expected.o) <= 4e-3);  // one rounding to bf16
    CHECK(test::relative_error(out.final_state, expected.final_state) <= 1e-5);
  }
}

}  // namespace
}  // namespace deltatape
