// The states before every chunk, and the name of what ran.
#include <doctest/doctest.h>

#include "ops/convert.h"
#include "ops/kda/chunk.h"
#include "ops/kda/recurrent.h"
#include "ops/views.h"
#include "tests/ops/kda/kda_cases.h"

namespace deltatape {
namespace {

using test::KDACase;
using test::make_case;

kda::Options with_h(int64_t chunk_size) {
  kda::Options options;
  options.output_h = true;
  options.output_final_state = true;
  options.chunk_size = chunk_size;
  return options;
}

/// The state of row b after the tokens [begin, end), by plain loops: [1,HV,K,V]; `state` is the initial one.
Tensor state_after(const KDACase& c, int64_t b, int64_t begin, int64_t end, const Tensor& state) {
  KDACase part;
  part.options = c.options;
  const auto piece = [&](const Tensor& x) { return contiguous(slice(slice(x, 0, {b, b + 1}), 1, {begin, end})); };
  part.inputs.q = piece(c.inputs.q);
  part.inputs.k = piece(c.inputs.k);
  part.inputs.v = piece(c.inputs.v);
  part.inputs.g = piece(c.inputs.g);
  part.inputs.beta = piece(c.inputs.beta);
  part.inputs.initial_state = state.defined() ? contiguous(state) : state;
  return test::plain_loops(part).final_state;
}

/// h[row, i] of every form against plain loops.
void check_chunk(const Tensor& h, int64_t h_row, int64_t i, const Tensor& expected) {
  CAPTURE(i);
  CHECK(test::largest_difference(slice(select(h, 0, h_row), 0, {i, i + 1}), expected) <= 1e-13);
}

TEST_CASE("kda: h is the state before every chunk of every row") {
  for (const bool v_first : {false, true}) {
    for (const int64_t C : {16, 32, 64}) {
      kda::Options options = with_h(C);
      options.state_v_first = v_first;
      const KDACase c = make_case({2, 67, 1, 2, 4, 3, {}}, options, 61, test::Decay::mixed);
      for (const auto function : {&kda::recurrent, &kda::chunk}) {
        const kda::Output out = function(c.inputs, c.options);
        const int64_t NT = (67 + C - 1) / C;
        CHECK(out.h.shape() == (v_first ? Shape{2, NT, 2, 3, 4} : Shape{2, NT, 2, 4, 3}));
        CHECK(out.h.is_contiguous());
        for (int64_t b = 0; b < 2; ++b) {
          const Tensor initial = slice(c.inputs.initial_state, 0, {b, b + 1});
          for (int64_t i = 0; i < NT; ++i) {
            check_chunk(out.h, b, i, state_after(c, b, 0, i * C, initial));
          }
        }
      }
    }
  }
}

TEST_CASE("kda: h of packed sequences, sequence after sequence") {
  const std::vector<int64_t> lengths{0, 33, 16, 1, 0, 17};
  const KDACase c = make_case({1, 67, 1, 2, 4, 3, lengths}, with_h(16), 62, test::Decay::bounded);
  for (const auto function : {&kda::recurrent, &kda::chunk}) {
    const kda::Output out = function(c.inputs, c.options);
    CHECK(out.h.shape() == Shape{1, 3 + 1 + 1 + 2, 2, 4, 3});
    int64_t begin = 0;
    int64_t at = 0;
    for (size_t n = 0; n < lengths.size(); ++n) {
      const auto row = static_cast<int64_t>(n);
      for (int64_t t = 0; t < lengths[n]; t += 16) {
        check_chunk(out.h, 0, at++,
                    state_after(c, 0, begin, begin + t, slice(c.inputs.initial_state, 0, {row, row + 1})));
      }
      begin += lengths[n];
    }
    CHECK(at == 7);
  }
}

TEST_CASE("kda: h of segments, row after row; only the first segment starts from the initial state") {
  KDACase c = make_case({2, 40, 1, 2, 4, 3, {}}, with_h(16), 63);
  std::vector<int64_t> ids(80, 0);
  std::fill(ids.begin() + 20, ids.begin() + 40, 9);  // row 0: [0,20), [20,40); row 1: [0,40)
  c.inputs.segment_ids = from_vector(ids, {2, 40});
  for (const auto function : {&kda::recurrent, &kda::chunk}) {
    const Tensor h = function(c.inputs, c.options).h;
    CHECK(h.shape() == Shape{1, 2 + 2 + 3, 2, 4, 3});
    const Tensor first = slice(c.inputs.initial_state, 0, {0, 1});
    const Tensor second = slice(c.inputs.initial_state, 0, {1, 2});
    check_chunk(h, 0, 0, first);
    check_chunk(h, 0, 1, state_after(c, 0, 0, 16, first));
    check_chunk(h, 0, 2, state_after(c, 0, 20, 20, Tensor()));
    check_chunk(h, 0, 3, state_after(c, 0, 20, 36, Tensor()));
    check_chunk(h, 0, 4, second);
    check_chunk(h, 0, 5, state_after(c, 1, 0, 16, second));
    check_chunk(h, 0, 6, state_after(c, 1, 0, 32, second));
  }
}

TEST_CASE("kda: h is in the dtype that is computed in, has no gradient, and comes only when asked for") {
  KDACase c = make_case({1, 20, 1, 1, 4, 3, {}}, with_h(16), 64);
  c.inputs.q.set_requires_grad();
  for (const auto function : {&kda::recurrent, &kda::chunk}) {
    const kda::Output out = function(c.inputs, c.options);
    CHECK(out.o.requires_grad());
    CHECK_FALSE(out.h.requires_grad());
    CHECK(out.h.dtype() == DType::f64);
    kda::Inputs narrow = c.inputs;
    for (Tensor* x : {&narrow.q, &narrow.k, &narrow.v, &narrow.g, &narrow.beta, &narrow.initial_state}) {
      *x = to(x->detach(), DType::bf16);
    }
    CHECK(function(narrow, c.options).h.dtype() == DType::f32);
    kda::Options without = c.options;
    without.output_h = false;
    CHECK_FALSE(function(c.inputs, without).h.defined());
  }
}

TEST_CASE("kda: h without time steps") {
  const KDACase rows = make_case({2, 0, 1, 2, 4, 3, {}}, with_h(16), 65);
  const KDACase packed = make_case({1, 0, 1, 2, 4, 3, {0, 0, 0}}, with_h(16), 66);
  KDACase segments = rows;
  segments.inputs.segment_ids = from_vector(std::vector<int64_t>{}, {2, 0});
  for (const auto function : {&kda::recurrent, &kda::chunk}) {
    CHECK(function(rows.inputs, rows.options).h.shape() == Shape{2, 0, 2, 4, 3});
    CHECK(function(packed.inputs, packed.options).h.shape() == Shape{1, 0, 2, 4, 3});
    CHECK(function(segments.inputs, segments.options).h.shape() == Shape{1, 0, 2, 4, 3});
  }
}

TEST_CASE("kda: the composed forms say that they ran") {
  for (const int64_t T : {0, 5}) {
    for (const bool segmented : {false, true}) {
      KDACase c = make_case({2, T, 1, 1, 4, 3, {}}, {}, 67);
      if (segmented) {
        c.inputs.segment_ids = from_vector(std::vector<int64_t>(static_cast<size_t>(2 * T), 1), {2, T});
      }
      CHECK(kda::recurrent(c.inputs, c.options).kernel == "kda::recurrent");
      CHECK(kda::chunk(c.inputs, c.options).kernel == "kda::chunk");
    }
  }
}

}  // namespace
}  // namespace deltatape
