// Decoding on a pool of states, against plain loops, the recurrence, and its composed form.
#include "ops/kda/decode.h"

#include <doctest/doctest.h>
#include <fmt/core.h>

#include <array>
#include <cstring>
#include <limits>
#include <random>
#include <string>

#include "autograd/grad_mode.h"
#include "ops/convert.h"
#include "ops/creation.h"
#include "ops/indexing.h"
#include "ops/inplace.h"
#include "ops/joining.h"
#include "ops/kda/recurrent.h"
#include "ops/views.h"
#include "tests/ops/kda/kda_cases.h"
#include "tests/support/errors.h"
#include "tests/support/random_tensors.h"

namespace deltatape {
namespace {

using test::KDACase;
using test::KDAShape;
using Decode = Tensor (*)(const kda::Inputs&, Tensor&, const kda::DecodeSlots&, const kda::Options&);

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

/// Inputs in `dtype`, without a state; parameters of the gate in f32 beside 16 bits.
kda::Inputs inputs_in(DType dtype, const KDACase& c) {
  const bool short_type = dtype == DType::bf16 || dtype == DType::f16;
  kda::Inputs in = c.inputs;
  in.initial_state = Tensor();
  for (Tensor* const x : {&in.q, &in.k, &in.v, &in.g, &in.beta}) {
    *x = to(*x, dtype);
  }
  for (Tensor* const x : {&in.A_log, &in.dt_bias}) {
    *x = x->defined() ? to(*x, short_type ? DType::f32 : dtype) : *x;
  }
  return in;
}

DType state_dtype(DType dtype) { return dtype == DType::f64 ? DType::f64 : DType::f32; }

/// Tokens [from, to) of every sequence.
kda::Inputs tokens(const kda::Inputs& in, int64_t from, int64_t to) {
  kda::Inputs cut = in;
  for (Tensor* const x : {&cut.q, &cut.k, &cut.v, &cut.g, &cut.beta}) {
    *x = slice(*x, 1, {from, to});
  }
  return cut;
}

Tensor indices(const std::vector<int64_t>& values) { return from_vector(values); }
Tensor indices(const std::vector<int64_t>& values, const Shape& shape) { return from_vector(values, shape); }

Tensor random_pool(int64_t slots, const KDAShape& s, bool v_first, uint64_t seed, DType dtype = DType::f64) {
  return test::random_tensor(v_first ? Shape{slots, s.HV, s.V, s.K} : Shape{slots, s.HV, s.K, s.V}, seed, dtype);
}

bool same_bits(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && a.dtype() == b.dtype() && a.is_contiguous() && b.is_contiguous() &&
         std::memcmp(a.raw(), b.raw(), static_cast<size_t>(a.numel()) * size_of(a.dtype())) == 0;
}

struct NamedOptions {
  const char* name;
  kda::Options options;
};

std::vector<NamedOptions> all_options() {
  std::vector<NamedOptions> rows(7);
  rows[0].name = "plain";
  rows[1].name = "standard gate, norm, sigmoid";
  rows[1].options.gate = kda::Gate::standard;
  rows[1].options.use_qk_l2norm = true;
  rows[1].options.use_beta_sigmoid = true;
  rows[2].name = "the same with negative eigenvalues and the value first";
  rows[2].options = rows[1].options;
  rows[2].options.allow_neg_eigval = true;
  rows[2].options.state_v_first = true;
  rows[3].name = "lower-bound gate, safe";
  rows[3].options.gate = kda::Gate::lower_bound;
  rows[3].options.safe_gate = true;
  rows[4].name = "lower bound of -12, norm, value first";
  rows[4].options.gate = kda::Gate::lower_bound;
  rows[4].options.lower_bound = -12.0;
  rows[4].options.use_qk_l2norm = true;
  rows[4].options.state_v_first = true;
  rows[5].name = "scale 1, value first";
  rows[5].options.scale = 1.0;
  rows[5].options.state_v_first = true;
  rows[6].name = "sigmoid only, scale -0.5";
  rows[6].options.use_beta_sigmoid = true;
  rows[6].options.scale = -0.5;
  return rows;
}

/// Limits of the relative error of o and of the states.
struct Limits {
  double o;
  double state;
};
Limits limits_of(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return {1e-13, 1e-13};
    case DType::f32:
      return {1e-6, 1e-6};
    default:  // o is rounded to 16 bits on both sides, and may fall on neighbours
      return {dtype == DType::bf16 ? 2e-3 : 2.5e-4, 1e-6};
  }
}

TEST_CASE("kda::decode: tokens one by one, in place, equal plain loops over the text") {
  const std::vector<KDAShape> shapes{
      {2, 7, 2, 2, 4, 3, {}},    {1, 5, 1, 1, 1, 1, {}},    {3, 4, 2, 6, 5, 9, {}},
      {1, 4, 1, 2, 60, 100, {}}, {1, 3, 1, 1, 33, 167, {}}, {2, 3, 1, 2, 128, 64, {}},
  };
  for (const KDAShape& shape : shapes) {
    for (const bool v_first : {false, true}) {
      CAPTURE(shape.K);
      CAPTURE(shape.V);
      CAPTURE(v_first);
      kda::Options options;
      options.state_v_first = v_first;
      const KDACase c = test::make_case(shape, options, 3, test::Decay::mixed);
      const kda::Output expected = test::plain_loops(c);
      const kda::Inputs in = inputs_in(DType::f64, c);
      for (const Decode decode : {Decode(kda::decode), Decode(kda::decode_composed)}) {
        Tensor pool = clone(c.inputs.initial_state);
        std::vector<Tensor> outputs;
        for (int64_t t = 0; t < shape.T; ++t) {
          outputs.push_back(decode(tokens(in, t, t + 1), pool, {.slots = arange(shape.B)}, options));
        }
        CHECK(test::relative_error(cat(outputs, 1), expected.o) <= 1e-13);
        CHECK(test::relative_error(pool, expected.final_state) <= 1e-13);
      }
    }
  }
}

TEST_CASE("kda::decode: tokens one by one equal kda::recurrent over the text, in every dtype") {
  const KDAShape shape{2, 12, 2, 4, 20, 36, {}};
  for (const NamedOptions& row : all_options()) {
    CAPTURE(row.name);
    for (const DType dtype : {DType::f64, DType::f32, DType::bf16, DType::f16}) {
      CAPTURE(to_string(dtype));
      const KDACase c = test::make_case(shape, row.options, 5);
      kda::Inputs in = inputs_in(dtype, c);
      Tensor pool = to(c.inputs.initial_state, state_dtype(dtype));
      kda::Options whole = row.options;
      whole.output_final_state = true;
      in.initial_state = clone(pool);
      const kda::Output expected = kda::recurrent(in, whole);
      in.initial_state = Tensor();
      std::vector<Tensor> outputs;
      for (int64_t t = 0; t < shape.T; ++t) {
        outputs.push_back(kda::decode(tokens(in, t, t + 1), pool, {.slots = arange(shape.B)}, row.options));
      }
      CHECK(outputs[0].dtype() == dtype);
      CHECK(test::relative_error(cat(outputs, 1), expected.o) <= limits_of(dtype).o);
      CHECK(test::relative_error(pool, expected.final_state) <= limits_of(dtype).state);
    }
  }
}

TEST_CASE("kda::decode: equals decode_composed with drafts, counts, bases and padding") {
  const KDAShape shape{6, 3, 2, 4, 18, 21, {}};
  const int64_t P = 24;
  // Sequence 1 is padding by its slots, 2 by its base, 3 by the slot it would start from; 4 has padding at its start
  // and 5 in the middle.
  const kda::DecodeSlots slots{
      .slots = indices({9, 4, 17, -1, -7, -1, 10, 11, 12, 13, -1, 14, -1, 6, 2, 20, -1, 0}, {6, 3}),
      .num_accepted = indices({3, 1, 0, 2, 0, 1}),
      .base_slot = indices({-1, 5, -1, 8, 22, 23})};
  for (const NamedOptions& row : all_options()) {
    CAPTURE(row.name);
    for (const DType dtype : {DType::f64, DType::f32, DType::bf16, DType::f16}) {
      CAPTURE(to_string(dtype));
      const KDACase c = test::make_case(shape, row.options, 9);
      const kda::Inputs in = inputs_in(dtype, c);
      Tensor pool = random_pool(P, shape, row.options.state_v_first, 4, state_dtype(dtype));
      Tensor expected_pool = clone(pool);
      const Tensor o = kda::decode(in, pool, slots, row.options);
      const Tensor expected = kda::decode_composed(in, expected_pool, slots, row.options);
      CHECK(o.dtype() == dtype);
      CHECK(test::relative_error(o, expected) <= limits_of(dtype).o);
      CHECK(test::relative_error(pool, expected_pool) <= limits_of(dtype).state);
    }
  }
}

TEST_CASE("kda::decode: indices of either dtype, slots without a second dimension") {
  const KDAShape shape{3, 1, 1, 1, 4, 5, {}};
  const KDACase c = test::make_case(shape, {}, 2);
  const kda::Inputs in = inputs_in(DType::f64, c);
  const Tensor start = random_pool(6, shape, false, 8);
  Tensor expected_pool = clone(start);
  const Tensor expected = kda::decode(in, expected_pool, {.slots = indices({4, -1, 0})});
  const Tensor i32 = to(indices({4, -1, 0}), DType::i32);
  for (const Tensor& slots : {i32, reshape(i32, {3, 1}), indices({4, -1, 0}, {3, 1})}) {
    Tensor pool = clone(start);
    CHECK(same_bits(kda::decode(in, pool, {.slots = slots}), expected));
    CHECK(same_bits(pool, expected_pool));
    // One token kept, and nothing kept with the base where the state is: the same again.
    pool = clone(start);
    const Tensor ones = to(indices({1, 1, 1}), DType::i32);
    CHECK(same_bits(kda::decode(in, pool, {.slots = slots, .num_accepted = ones}), expected));
    CHECK(same_bits(pool, expected_pool));
    pool = clone(start);
    CHECK(same_bits(kda::decode(in, pool, {.slots = slots, .base_slot = i32}), expected));
    CHECK(same_bits(pool, expected_pool));
  }
}

/// The text that drafts are taken from, and what the recurrence says at each of its tokens.
struct Text {
  kda::Inputs inputs;
  Tensor o;
};
Text make_text(const KDAShape& shape, const kda::Options& options, const Tensor& states) {
  const KDACase c = test::make_case(shape, options, 21);
  Text text{inputs_in(DType::f64, c), {}};
  kda::Inputs in = text.inputs;
  in.initial_state = states;
  text.o = kda::recurrent(in, options).o;
  return text;
}

/// m drafts per sequence: the text from `position` on, and garbage behind the first good[n] of them.
kda::Inputs drafts(const kda::Inputs& text, const std::vector<int64_t>& position, const std::vector<int64_t>& good,
                   int64_t m) {
  kda::Inputs in = text;
  for (Tensor* const x : {&in.q, &in.k, &in.v, &in.g, &in.beta}) {
    std::vector<Tensor> rows;
    for (size_t n = 0; n < position.size(); ++n) {
      const Tensor row = slice(*x, 0, {static_cast<int64_t>(n), static_cast<int64_t>(n) + 1});
      rows.push_back(clone(slice(row, 1, {position[n], position[n] + m})));
      Tensor wrong = slice(rows.back(), 1, {good[n], m});
      fill_(wrong, x == &in.g ? -0.3 : 0.7);
    }
    *x = cat(rows, 0);
  }
  return in;
}

/// Compares the outputs of the drafts that were good with those of the text.
void check_accepted(const Tensor& o, const Tensor& text, const std::vector<int64_t>& position,
                    const std::vector<int64_t>& good) {
  for (size_t n = 0; n < position.size(); ++n) {
    const auto row = static_cast<int64_t>(n);
    const Tensor here = slice(select(o, 0, row), 0, {0, good[n]});
    const Tensor there = slice(select(text, 0, row), 0, {position[n], position[n] + good[n]});
    CHECK(test::relative_error(here, there) <= 1e-13);
  }
}

TEST_CASE("kda::decode: drafts with some accepted, several steps long, equal the text token by token") {
  constexpr int64_t kDrafts = 3;
  const KDAShape shape{3, 40, 1, 2, 6, 7, {}};
  const int64_t N = shape.B;
  for (const bool v_first : {false, true}) {
    CAPTURE(v_first);
    kda::Options options;
    options.state_v_first = v_first;
    Tensor pool = random_pool(20, shape, v_first, 31);
    const Text text = make_text(shape, options, slice(pool, 0, {0, N}));
    // Two tables by turns: what a step started from stays, so that it can be started again when no draft is accepted.
    const std::array<std::vector<int64_t>, 2> tables{
        {{3, 4, 5, 6, 7, 8, 9, 10, 11}, {12, 13, 14, 15, 16, 17, 18, 19, 2}}};
    std::vector<int64_t> base{0, 1, 2};
    std::vector<int64_t> position(3, 0);
    std::mt19937_64 random(1);
    int zeros_seen = 0;
    for (size_t step = 0; step < 9; ++step) {
      std::vector<int64_t> good;
      for (int64_t n = 0; n < N; ++n) {
        good.push_back(static_cast<int64_t>(random() % (kDrafts + 1)));
        zeros_seen += good.back() == 0 ? 1 : 0;
      }
      // A sequence whose drafts were all refused still has its state in the other table: it writes the same again.
      std::vector<int64_t> slots;
      for (size_t n = 0; n < 3; ++n) {
        const auto& other = tables[base[n] >= 3 && base[n] <= 11 ? 1 : 0];
        slots.insert(slots.end(), other.begin() + static_cast<std::ptrdiff_t>(3 * n),
                     other.begin() + static_cast<std::ptrdiff_t>(3 * n + 3));
      }
      const Tensor o = kda::decode(drafts(text.inputs, position, good, kDrafts), pool,
                                   {.slots = indices(slots, {N, kDrafts}), .base_slot = indices(base)}, options);
      check_accepted(o, text.o, position, good);
      for (size_t n = 0; n < 3; ++n) {
        if (good[n] > 0) {
          base[n] = slots[3 * n + static_cast<size_t>(good[n]) - 1];
          position[n] += good[n];
        }
      }
    }
    CHECK(zeros_seen > 0);
    for (const int64_t place : position) {
      CHECK(place > 5);
    }
  }
}

TEST_CASE("kda::decode: one table of slots, started from the last accepted draft, equals the text") {
  constexpr int64_t kDrafts = 4;
  const KDAShape shape{2, 40, 1, 1, 5, 4, {}};
  Tensor pool = random_pool(10, shape, false, 32);
  const Text text = make_text(shape, {}, slice(pool, 0, {8, 10}));
  const Tensor slots = indices({0, 1, 2, 3, 4, 5, 6, 7}, {2, kDrafts});
  std::vector<int64_t> accepted{0, 0};  // the first step starts from the bases
  std::vector<int64_t> position{0, 0};
  std::mt19937_64 random(2);
  for (int step = 0; step < 10; ++step) {
    const std::vector<int64_t> good{1 + static_cast<int64_t>(random() % kDrafts),
                                    1 + static_cast<int64_t>(random() % kDrafts)};
    const Tensor o = kda::decode(drafts(text.inputs, position, good, kDrafts), pool,
                                 {.slots = slots, .num_accepted = indices(accepted), .base_slot = indices({8, 9})});
    check_accepted(o, text.o, position, good);
    for (size_t n = 0; n < 2; ++n) {
      position[n] += good[n];
    }
    accepted = good;
  }
}

TEST_CASE("kda::decode: the start is read before the first draft is written over it") {
  const KDAShape shape{1, 3, 1, 1, 3, 2, {}};
  const KDACase c = test::make_case(shape, {}, 6);
  const kda::Inputs in = inputs_in(DType::f64, c);
  Tensor pool = random_pool(3, shape, false, 7);
  Tensor expected = clone(slice(pool, 0, {0, 1}));
  const Tensor expected_o = cat({kda::decode(tokens(in, 0, 1), expected, {.slots = indices({0})}),
                                 kda::decode(tokens(in, 1, 2), expected, {.slots = indices({0})}),
                                 kda::decode(tokens(in, 2, 3), expected, {.slots = indices({0})})},
                                1);
  // Starts from slot 0, which the first draft replaces; the last draft's state is in slot 2.
  const Tensor o = kda::decode(in, pool, {.slots = indices({0, 1, 2}, {1, 3}), .num_accepted = indices({1})});
  CHECK(same_bits(o, expected_o));
  CHECK(same_bits(clone(slice(pool, 0, {2, 3})), expected));
  // All drafts of a sequence in one slot: the last one stays.
  Tensor one = random_pool(3, shape, false, 7);
  CHECK(same_bits(kda::decode(in, one, {.slots = indices({1, 1, 1}, {1, 3}), .base_slot = indices({0})}), expected_o));
  CHECK(same_bits(clone(slice(one, 0, {1, 2})), expected));
}

TEST_CASE("kda::decode: padding is not read, writes nothing and gives zeros; other slots keep their bits") {
  const KDAShape shape{4, 2, 1, 2, 5, 19, {}};
  for (const DType dtype : {DType::f64, DType::bf16}) {
    for (const bool v_first : {false, true}) {
      kda::Options options;
      options.state_v_first = v_first;
      KDACase c = test::make_case(shape, options, 6);
      // Token 1 of sequence 0, all of sequences 1 and 2 are padding, with NaN in every input.
      for (Tensor* const x : {&c.inputs.q, &c.inputs.k, &c.inputs.v, &c.inputs.g, &c.inputs.beta}) {
        Tensor last = slice(slice(*x, 0, {0, 1}), 1, {1, 2});
        Tensor rows = slice(*x, 0, {1, 3});
        fill_(last, kNaN);
        fill_(rows, kNaN);
      }
      const kda::Inputs in = inputs_in(dtype, c);
      Tensor pool = random_pool(7, shape, v_first, 14, state_dtype(dtype));
      for (const int64_t unused : {1, 4}) {
        Tensor slot = select(pool, 0, unused);
        fill_(slot, kNaN);
      }
      const Tensor before = clone(pool);
      const kda::DecodeSlots slots{.slots = indices({6, -1, 5, 3, -1, -2, 2, 0}, {4, 2}),
                                   .num_accepted = indices({1, 0, 1, 2}),
                                   .base_slot = indices({1, -3, 1, 1})};
      for (const Decode decode : {Decode(kda::decode), Decode(kda::decode_composed)}) {
        copy_(pool, before);
        const Tensor o = decode(in, pool, slots, options);
        const std::vector<double> values = o.to_vector<double>();
        const auto row = static_cast<size_t>(shape.HV * shape.V);
        for (size_t i = 0; i < values.size(); ++i) {
          const size_t token = i / row;
          CAPTURE(token);
          CHECK((values[i] == 0.0) == (token >= 1 && token <= 5));
        }
        for (int64_t slot = 0; slot < 7; ++slot) {
          CAPTURE(slot);
          const bool kept = same_bits(select(pool, 0, slot), select(before, 0, slot));
          CHECK(kept == (slot != 6 && slot != 2 && slot != 0));
        }
      }
    }
  }
}

TEST_CASE("kda::decode: views as inputs, and inputs that lie in the pool's own memory") {
  const KDAShape shape{1, 1, 2, 2, 4, 4, {}};
  const KDACase c = test::make_case(shape, {}, 6);
  kda::Inputs in = inputs_in(DType::f64, c);
  // v is two rows of the state that the first head is about to change.
  Tensor pool = random_pool(2, shape, false, 14);
  in.v = reshape(slice(select(select(pool, 0, 1), 0, 0), 0, {0, 2}), {1, 1, 2, 4});
  kda::Inputs apart = in;
  apart.v = clone(in.v);
  Tensor expected_pool = clone(pool);
  const Tensor expected = kda::decode(apart, expected_pool, {.slots = indices({1})});
  CHECK(same_bits(kda::decode(in, pool, {.slots = indices({1})}), expected));
  CHECK(same_bits(pool, expected_pool));

  // q with gaps, k transposed, a pool that begins inside its memory.
  kda::Inputs strided = apart;
  strided.q = slice(cat({apart.q, zeros_like(apart.q)}, 3), 3, {0, 4});
  strided.k = transpose(clone(transpose(apart.k, 2, 3)), 2, 3);
  Tensor large = random_pool(3, shape, false, 14);
  Tensor inner = slice(large, 0, {1, 3});
  const Tensor first = clone(select(large, 0, 0));
  copy_(inner, random_pool(2, shape, false, 14));
  CHECK(same_bits(kda::decode(strided, inner, {.slots = indices({1})}), expected));
  CHECK(same_bits(clone(inner), expected_pool));
  CHECK(same_bits(select(large, 0, 0), first));
}

TEST_CASE("kda::decode: no sequences, no tokens, no slots") {
  const KDAShape shape{0, 2, 1, 1, 3, 2, {}};
  for (const Decode decode : {Decode(kda::decode), Decode(kda::decode_composed)}) {
    Tensor pool = random_pool(2, shape, false, 1);
    const Tensor before = clone(pool);
    const kda::Inputs none = inputs_in(DType::f64, test::make_case(shape, {}, 1));
    const kda::DecodeSlots no_slots{.slots = zeros({0, 2}, {DType::i64, Device::cpu()}),
                                    .num_accepted = zeros({0}, {DType::i64, Device::cpu()})};
    CHECK(decode(none, pool, no_slots, {}).shape() == Shape{0, 2, 1, 2});
    const kda::Inputs empty = inputs_in(DType::f64, test::make_case({2, 0, 1, 1, 3, 2, {}}, {}, 1));
    const kda::DecodeSlots bases{.slots = zeros({2, 0}, {DType::i64, Device::cpu()}), .base_slot = indices({0, 0})};
    CHECK(decode(empty, pool, bases, {}).shape() == Shape{2, 0, 1, 2});
    CHECK(same_bits(pool, before));
    Tensor nothing = random_pool(0, shape, false, 1);
    const kda::Inputs one = inputs_in(DType::f64, test::make_case({1, 1, 1, 1, 3, 2, {}}, {}, 1));
    const Tensor o = decode(one, nothing, {.slots = indices({-1})}, {});
    CHECK(o.to_vector<double>() == std::vector<double>{0.0, 0.0});
  }
}

TEST_CASE("kda::decode: many heads, on several threads") {
  const KDAShape shape{3, 2, 2, 8, 64, 80, {}};
  kda::Options options;
  options.gate = kda::Gate::standard;
  options.use_qk_l2norm = true;
  options.use_beta_sigmoid = true;
  for (const bool v_first : {false, true}) {
    options.state_v_first = v_first;
    const kda::Inputs in = inputs_in(DType::f32, test::make_case(shape, options, 77));
    Tensor pool = random_pool(9, shape, v_first, 5, DType::f32);
    Tensor expected_pool = clone(pool);
    const kda::DecodeSlots slots{.slots = indices({0, 1, 2, 3, 4, 5}, {3, 2}), .base_slot = indices({6, 7, 8})};
    const Tensor o = kda::decode(in, pool, slots, options);
    CHECK(test::relative_error(o, kda::decode_composed(in, expected_pool, slots, options)) <= 1e-6);
    CHECK(test::relative_error(pool, expected_pool) <= 1e-6);
  }
}

TEST_CASE("kda::decode: counts as a write to the pool, and has no gradients") {
  const KDAShape shape{1, 1, 1, 1, 3, 2, {}};
  kda::Options gate;
  gate.gate = kda::Gate::standard;
  for (const Decode decode : {Decode(kda::decode), Decode(kda::decode_composed)}) {
    const std::string name = decode == Decode(kda::decode) ? "kda::decode" : "kda::decode_composed";
    const kda::Inputs in = inputs_in(DType::f64, test::make_case(shape, gate, 1));
    Tensor pool = random_pool(2, shape, false, 1);
    const uint32_t version = pool.storage()->version();
    CHECK_FALSE(decode(in, pool, {.slots = indices({1})}, gate).requires_grad());
    CHECK(pool.storage()->version() > version);

    const auto refusal = [&name](const std::string& argument) {
      return fmt::format(
          "{}: {} requires a gradient, expected that nothing is recorded meanwhile (use a NoGradGuard): a pool has no "
          "gradients",
          name, argument);
    };
    const std::vector<std::pair<const char*, Tensor kda::Inputs::*>> members{{"q", &kda::Inputs::q},
                                                                             {"k", &kda::Inputs::k},
                                                                             {"v", &kda::Inputs::v},
                                                                             {"g", &kda::Inputs::g},
                                                                             {"beta", &kda::Inputs::beta},
                                                                             {"A_log", &kda::Inputs::A_log},
                                                                             {"dt_bias", &kda::Inputs::dt_bias}};
    const Tensor before = clone(pool);
    for (const auto& member : members) {
      kda::Inputs leaf = in;
      leaf.*member.second = clone(in.*member.second);
      (leaf.*member.second).set_requires_grad();
      CHECK_ERROR(decode(leaf, pool, {.slots = indices({1})}, gate), refusal(member.first));
      CHECK(same_bits(pool, before));
      const NoGradGuard guard;
      Tensor copy = clone(pool);
      CHECK_FALSE(decode(leaf, copy, {.slots = indices({1})}, gate).requires_grad());
    }
    Tensor leaf_pool = clone(pool);
    leaf_pool.set_requires_grad();
    CHECK_ERROR(decode(in, leaf_pool, {.slots = indices({1})}, gate), refusal("pool"));
    Tensor recorded = clone(leaf_pool);
    CHECK_ERROR(decode(in, recorded, {.slots = indices({1})}, gate),
                name +
                    ": pool is part of a graph, expected a tensor without history (detach() gives one on the same "
                    "memory)");
  }
}

/// A call that is fine: two sequences, two tokens, eight slots.
struct Call {
  Call() : pool(random_pool(8, kShape, false, 3)), inputs(inputs_in(DType::f64, test::make_case(kShape, {}, 4))) {
    slots.slots = indices({0, 1, 2, 3}, {2, 2});
    slots.num_accepted = indices({1, 0});
    slots.base_slot = indices({6, 7});
  }
  /// The error of both forms, without the function's name, which is checked here; that nothing was written too.
  std::string error() {
    const Tensor before = clone(pool);
    const std::string message = test::error_of([this] { kda::decode(inputs, pool, slots, options); });
    const std::string other = test::error_of([this] { kda::decode_composed(inputs, pool, slots, options); });
    const std::string name = "kda::decode: ";
    const std::string other_name = "kda::decode_composed: ";
    CHECK(message.rfind(name, 0) == 0);
    CHECK(other.rfind(other_name, 0) == 0);
    CHECK(message.substr(name.size()) == other.substr(other_name.size()));
    CHECK(same_bits(clone(pool), clone(before)));
    return message.substr(name.size());
  }

  inline static const KDAShape kShape{2, 2, 1, 2, 3, 5, {}};
  Tensor pool;
  kda::Inputs inputs;
  kda::DecodeSlots slots;
  kda::Options options;
};

template <class Change>
std::string error_after(const Change& change) {
  Call call;
  change(call);
  return call.error();
}

TEST_CASE("kda::decode: the inputs are checked as everywhere, and what a pool replaces is refused") {
  Call fine;
  CHECK_NOTHROW(kda::decode(fine.inputs, fine.pool, fine.slots, fine.options));
  CHECK(error_after([](Call& c) {
          c.inputs.g = zeros({2, 2, 2, 4}, {DType::f64, Device::cpu()});
        }) == "g has shape [2, 2, 2, 4], expected [B, T, HV, K] = [2, 2, 2, 3]");
  CHECK(error_after([](Call& c) { c.inputs.v = to(c.inputs.v, DType::f32); }) == "v has dtype f32, expected f64 as q");
  CHECK(error_after([](Call& c) { c.options.scale = kNaN; }) == "scale is nan, expected a finite number");
  CHECK(error_after([](Call& c) { c.options.gate = kda::Gate::standard; }) ==
        "A_log is missing, expected a tensor [HV] for the standard gate");
  CHECK(error_after([](Call& c) { c.inputs.initial_state = random_pool(2, Call::kShape, false, 1); }) ==
        "initial_state is given, expected none: the states are in the pool");
  CHECK(error_after([](Call& c) {
          c.inputs.cu_seqlens = indices({0, 2});
        }) == "cu_seqlens is given, expected none: every row is a sequence");
  CHECK(error_after([](Call& c) {
          c.inputs.segment_ids = indices({0, 0, 0, 0}, {2, 2});
        }) == "segment_ids is given, expected none: every row is a sequence");
  CHECK(error_after([](Call& c) { c.options.output_final_state = true; }) ==
        "output_final_state is true, expected false: the states are in the pool");
  CHECK(error_after([](Call& c) { c.options.output_h = true; }) ==
        "output_h is true, expected false: the states are in the pool");
}

TEST_CASE("kda::decode: pools that do not fit") {
  Call missing;
  Tensor none;
  CHECK_ERROR(kda::decode(missing.inputs, none, missing.slots), "kda::decode: pool is undefined, expected a tensor");
  CHECK(error_after([](Call& c) {
          c.pool = zeros({8, 2, 15}, {DType::f64, Device::cpu()});
        }) == "pool has shape [8, 2, 15], expected rank 4, [P, HV, K, V]");
  CHECK(error_after([](Call& c) { c.pool = random_pool(8, Call::kShape, true, 1); }) ==
        "pool has shape [8, 2, 5, 3], expected [P, HV, K, V] = [8, 2, 3, 5]");
  CHECK(error_after([](Call& c) { c.options.state_v_first = true; }) ==
        "pool has shape [8, 2, 3, 5], expected [P, HV, V, K] = [8, 2, 5, 3]");
  CHECK(error_after([](Call& c) { c.pool = to(c.pool, DType::f32); }) == "pool has dtype f32, expected f64");
  CHECK(error_after([](Call& c) {
          for (Tensor* const x : {&c.inputs.q, &c.inputs.k, &c.inputs.v, &c.inputs.g, &c.inputs.beta}) {
            *x = to(*x, DType::bf16);
          }
          c.pool = to(c.pool, DType::bf16);
        }) == "pool has dtype bf16, expected f32");
  CHECK(error_after([](Call& c) { c.pool = transpose(random_pool(8, Call::kShape, true, 1), 2, 3); }) ==
        "pool has shape [8, 2, 3, 5] and strides [30, 15, 1, 3], expected contiguous memory");
}

TEST_CASE("kda::decode: slots, counts and bases that do not fit") {
  Call missing;
  missing.slots.slots = Tensor();
  CHECK(missing.error() == "slots is undefined, expected a tensor");
  CHECK(error_after([](Call& c) { c.slots.slots = zeros({2, 2}); }) == "slots has dtype f32, expected i64 or i32");
  CHECK(error_after([](Call& c) {
          c.slots.slots = indices({0, 1});
        }) == "slots has shape [2], expected rank 2, [N, m]");
  CHECK(error_after([](Call& c) {
          c.slots.slots = indices({0, 1, 2, 3, 4, 5}, {2, 3});
        }) == "slots has shape [2, 3], expected [N, m] = [2, 2]");
  CHECK(error_after([](Call& c) {
          c.inputs = tokens(c.inputs, 0, 1);
          c.slots = {.slots = indices({0, 1, 2})};
        }) == "slots has shape [3], expected [N] = [2]");
  CHECK(error_after([](Call& c) {
          c.slots.slots = indices({0, 1, 2, 8}, {2, 2});
        }) == "slots[1][1] is 8, expected less than P = 8 (or a negative number for padding)");
  CHECK(error_after([](Call& c) {
          c.slots.base_slot = indices({8, 7});
        }) == "base_slot[0] is 8, expected less than P = 8 (or a negative number for padding)");
  CHECK(error_after([](Call& c) { c.slots.base_slot = zeros({2}); }) == "base_slot has dtype f32, expected i64 or i32");
  CHECK(error_after([](Call& c) {
          c.slots.base_slot = indices({6, 7, 5});
        }) == "base_slot has shape [3], expected [N] = [2]");
  CHECK(error_after([](Call& c) { c.slots.num_accepted = zeros({2}); }) ==
        "num_accepted has dtype f32, expected i64 or i32");
  CHECK(error_after([](Call& c) {
          c.slots.num_accepted = indices({1, 1}, {2, 1});
        }) == "num_accepted has shape [2, 1], expected [N] = [2]");
  CHECK(error_after([](Call& c) {
          c.slots.num_accepted = indices({1, 3});
        }) == "num_accepted[1] is 3, expected 0 to m = 2");
  CHECK(error_after([](Call& c) {
          c.slots.num_accepted = indices({-1, 1});
        }) == "num_accepted[0] is -1, expected 0 to m = 2");
  CHECK(error_after([](Call& c) { c.slots.base_slot = Tensor(); }) ==
        "num_accepted[1] is 0 and base_slot is missing, expected base_slot [N]");
  CHECK(error_after([](Call& c) {
          c.slots.num_accepted = Tensor();
          c.slots.base_slot = Tensor();
        }) == "num_accepted and base_slot are both missing with m = 2 tokens, expected one of them unless m = 1");
}

TEST_CASE("kda::decode: two sequences on one slot") {
  CHECK(error_after([](Call& c) {
          c.slots.slots = indices({0, 1, 2, 0}, {2, 2});
        }) == "slots[0][0] and slots[1][1] are both 0, expected no slot in two sequences");
  // One writes where the other starts, both start from one state.
  CHECK(error_after([](Call& c) {
          c.slots.slots = indices({0, 7, 2, 3}, {2, 2});
        }) == "slots[0][1] and base_slot[1] are both 7, expected no slot in two sequences");
  CHECK(error_after([](Call& c) {
          c.slots.num_accepted = Tensor();
          c.slots.base_slot = indices({5, 5});
        }) == "base_slot[0] and base_slot[1] are both 5, expected no slot in two sequences");
  // A base that is not started from, tokens that are padding, and one sequence by itself do not count.
  Call fine;
  fine.slots.base_slot = indices({3, 7});
  CHECK_NOTHROW(kda::decode(fine.inputs, fine.pool, fine.slots));
  fine.slots.slots = indices({-1, -1, 3, 3}, {2, 2});
  fine.slots.num_accepted = indices({0, 0});
  CHECK_NOTHROW(kda::decode(fine.inputs, fine.pool, fine.slots));
}

}  // namespace
}  // namespace deltatape
