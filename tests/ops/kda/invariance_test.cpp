// Calls that must give the same numbers: in pieces and at once, packed and apart, heads shared and repeated, heads in
// another order, on one thread and on several.
#include <doctest/doctest.h>
#include <omp.h>

#include "ops/arithmetic.h"
#include "ops/convert.h"
#include "ops/creation.h"
#include "ops/indexing.h"
#include "ops/joining.h"
#include "ops/kda/recurrent.h"
#include "ops/reduction.h"
#include "ops/views.h"
#include "tests/ops/kda/kda_cases.h"

namespace deltatape {
namespace {

using test::find;
using test::KDACase;
using test::KDAShape;
using test::make_case;
using test::NamedResults;

constexpr double kRounding = 1e-12;

kda::Options plain() {
  kda::Options options;
  options.output_final_state = true;
  return options;
}

kda::Options with_everything() {
  kda::Options options = plain();
  options.gate = kda::Gate::lower_bound;
  options.use_qk_l2norm = true;
  options.use_beta_sigmoid = true;
  options.allow_neg_eigval = true;
  options.state_v_first = true;
  options.save_intermediates = true;
  return options;
}

bool is_parameter(const std::string& name) { return name == "dA_log" || name == "ddt_bias"; }
bool is_state(const std::string& name) { return name == "ht" || name == "dh0"; }

void check_equal(const NamedResults& actual, const NamedResults& expected) {
  REQUIRE(actual.size() == expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    const std::string& name = expected[i].first;
    CAPTURE(name);
    CHECK(actual[i].first == name);
    CHECK(test::max_error(actual[i].second, expected[i].second) <= kRounding);
  }
}

void check_same_bits(const NamedResults& actual, const NamedResults& expected) {
  REQUIRE(actual.size() == expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    CAPTURE(expected[i].first);
    CHECK(test::same_bits(actual[i].second, expected[i].second));
  }
}

/// Tokens [begin, end) of batch row `row`, with the state and upstream gradient of sequence n.
KDACase part_of(const KDACase& c, int64_t row, int64_t begin, int64_t end, int64_t n) {
  const auto one = [](const Tensor& x, int64_t i) { return x.defined() ? slice(x, 0, {i, i + 1}) : x; };
  KDACase part = c;
  kda::Inputs& in = part.inputs;
  for (Tensor* x : {&in.q, &in.k, &in.v, &in.g, &in.beta, &part.d_o}) {
    *x = contiguous(slice(one(*x, row), 1, {begin, end}));
  }
  in.initial_state = one(c.inputs.initial_state, n);
  part.d_ht = one(c.d_ht, n);
  in.cu_seqlens = Tensor();
  in.segment_ids = Tensor();
  return part;
}

/// Results of parts put together: tokens along `dim`, states along 0, parameters added.
NamedResults joined(const std::vector<NamedResults>& parts, int64_t dim) {
  NamedResults whole;
  for (size_t i = 0; i < parts[0].size(); ++i) {
    const std::string& name = parts[0][i].first;
    std::vector<Tensor> pieces;
    pieces.reserve(parts.size());
    for (const NamedResults& part : parts) {
      pieces.push_back(part[i].second);
    }
    if (is_parameter(name)) {
      whole.emplace_back(name, sum(stack(pieces, 0), {0}));
    } else {
      whole.emplace_back(name, cat(pieces, is_state(name) ? 0 : static_cast<int>(dim)));
    }
  }
  return whole;
}

/// The whole from two calls: the state goes from the first to the second, its gradient back.
NamedResults in_two_pieces(test::KDAFunction function, const KDACase& c, int64_t border) {
  KDACase first = c;
  KDACase second = c;
  first.inputs = test::tokens_of(c.inputs, 0, border);
  second.inputs = test::tokens_of(c.inputs, border, c.inputs.q.size(1));
  first.d_o = slice(c.d_o, 1, {0, border});
  second.d_o = slice(c.d_o, 1, {border, c.inputs.q.size(1)});
  second.inputs.initial_state = function(first.inputs, first.options).final_state;
  const NamedResults after = run_case(function, second);
  first.d_ht = find(after, "dh0");
  const NamedResults before = run_case(function, first);
  NamedResults whole = joined({before, after}, 1);
  for (auto& named : whole) {
    if (is_state(named.first)) {
      named.second = find(named.first == "ht" ? after : before, named.first);
    }
  }
  return whole;
}

TEST_CASE("kda: a text in two pieces equals the whole, gradients included [slow]") {
  for (const kda::Options& options : {plain(), with_everything()}) {
    const KDACase c = make_case({2, 140, 1, 2, 5, 3, {}}, options, 91, test::Decay::mixed);
    for (const test::Implementation& implementation : test::implementations()) {
      CAPTURE(implementation.name);
      const NamedResults whole = run_case(implementation.function, c);
      for (const int64_t border : {0, 1, 15, 16, 17, 63, 64, 65, 100, 139, 140}) {
        CAPTURE(border);
        check_equal(in_two_pieces(implementation.function, c, border), whole);
      }
    }
  }
}

TEST_CASE("kda: packed sequences equal a call for each") {
  const std::vector<int64_t> lengths{17, 0, 1, 64, 0, 33, 16};
  for (const kda::Options& options : {plain(), with_everything()}) {
    const KDACase c = make_case({1, 131, 2, 4, 5, 3, lengths}, options, 92, test::Decay::mixed);
    for (const test::Implementation& implementation : test::implementations()) {
      CAPTURE(implementation.name);
      std::vector<NamedResults> parts;
      int64_t begin = 0;
      for (size_t n = 0; n < lengths.size(); ++n) {
        const KDACase part = part_of(c, 0, begin, begin + lengths[n], static_cast<int64_t>(n));
        parts.push_back(run_case(implementation.function, part));
        begin += lengths[n];
      }
      check_equal(run_case(implementation.function, c), joined(parts, 1));
    }
  }
}

TEST_CASE("kda: segments of packed rows equal a call for each") {
  // Row 0: 70 tokens, then 1, then 29 with the first id again. Row 1: one segment. Row 2: 16, 16, 68.
  const std::vector<std::vector<std::pair<int64_t, int64_t>>> rows{
      {{-3, 70}, {8, 1}, {-3, 29}}, {{0, 100}}, {{1, 16}, {2, 16}, {3, 68}}};
  std::vector<int64_t> ids;
  for (const auto& row : rows) {
    for (const auto& segment : row) {
      ids.insert(ids.end(), static_cast<size_t>(segment.second), segment.first);
    }
  }
  for (const kda::Options& options : {plain(), with_everything()}) {
    KDACase c = make_case({3, 100, 1, 2, 5, 3, {}}, options, 93, test::Decay::mixed);
    c.inputs.segment_ids = from_vector(ids, {3, 100});
    for (const test::Implementation& implementation : test::implementations()) {
      CAPTURE(implementation.name);
      std::vector<NamedResults> whole_rows;
      for (size_t b = 0; b < rows.size(); ++b) {
        std::vector<NamedResults> parts;
        int64_t begin = 0;
        for (size_t s = 0; s < rows[b].size(); ++s) {
          const int64_t end = begin + rows[b][s].second;
          KDACase part = part_of(c, static_cast<int64_t>(b), begin, end, static_cast<int64_t>(b));
          if (s > 0) {
            part.inputs.initial_state = zeros_like(part.inputs.initial_state);
          }
          if (s + 1 < rows[b].size()) {
            part.d_ht = Tensor();
          }
          parts.push_back(run_case(implementation.function, part));
          begin = end;
        }
        NamedResults row = joined(parts, 1);
        for (auto& named : row) {
          if (is_state(named.first)) {  // dh0 is the first segment's, ht the last one's
            named.second = find(named.first == "ht" ? parts.back() : parts.front(), named.first);
          }
        }
        whole_rows.push_back(row);
      }
      check_equal(run_case(implementation.function, c), joined(whole_rows, 0));
    }
  }
}

/// [B,T,H,K] with every head `group` times, next to each other.
Tensor repeated(const Tensor& x, int64_t group) {
  const Shape& s = x.shape();
  return contiguous(
      reshape(expand(unsqueeze(x, 3), {s[0], s[1], s[2], group, s[3]}), {s[0], s[1], s[2] * group, s[3]}));
}

TEST_CASE("kda: shared heads equal repeated ones, and their gradients are sums") {
  for (const kda::Options& options : {plain(), with_everything()}) {
    const KDACase shared = make_case({2, 37, 2, 6, 5, 3, {}}, options, 94, test::Decay::mixed);
    KDACase apart = shared;
    apart.inputs.q = repeated(shared.inputs.q, 3);
    apart.inputs.k = repeated(shared.inputs.k, 3);
    for (const test::Implementation& implementation : test::implementations()) {
      CAPTURE(implementation.name);
      NamedResults expected = run_case(implementation.function, apart);
      for (auto& named : expected) {
        if (named.first == "dq" || named.first == "dk") {
          named.second = sum(reshape(named.second, {2, 37, 2, 3, 5}), {3});
        }
      }
      check_equal(run_case(implementation.function, shared), expected);
    }
  }
}

TEST_CASE("kda: heads in another order give the same numbers in that order") {
  const Tensor order = from_vector(std::vector<int64_t>{2, 0, 3, 1});
  const auto permuted = [&order](const Tensor& x, int dim) { return x.defined() ? index_select(x, dim, order) : x; };
  for (const kda::Options& options : {plain(), with_everything()}) {
    const KDACase c = make_case({2, 37, 4, 4, 5, 3, {}}, options, 95, test::Decay::mixed);
    KDACase other = c;
    kda::Inputs& in = other.inputs;
    for (Tensor* x : {&in.q, &in.k, &in.v, &in.g, &in.beta, &other.d_o}) {
      *x = permuted(*x, 2);
    }
    in.initial_state = permuted(in.initial_state, 1);
    other.d_ht = permuted(other.d_ht, 1);
    in.A_log = permuted(in.A_log, 0);
    if (in.dt_bias.defined()) {
      in.dt_bias = flatten(permuted(reshape(in.dt_bias, {4, 5}), 0));
    }
    for (const test::Implementation& implementation : test::implementations()) {
      CAPTURE(implementation.name);
      NamedResults expected = run_case(implementation.function, c);
      for (auto& named : expected) {
        if (named.first == "ddt_bias") {
          named.second = flatten(permuted(reshape(named.second, {4, 5}), 0));
        } else {
          named.second = permuted(named.second, named.first == "dA_log" ? 0 : is_state(named.first) ? 1 : 2);
        }
      }
      const NamedResults actual = run_case(implementation.function, other);
      implementation.fused ? check_same_bits(actual, expected) : check_equal(actual, expected);
    }
  }
}

TEST_CASE("kda: the number of threads changes no bit of the fused forms") {
  // Sizes with more and with fewer pairs of a sequence and a head than threads, and V over several blocks of columns.
  struct Row {
    const char* name;
    KDAShape shape;
  };
  const std::vector<Row> rows{{"one long head", {1, 300, 1, 1, 40, 70, {}}},
                              {"shared heads", {1, 150, 1, 3, 33, 40, {}}},
                              {"many heads", {3, 80, 4, 8, 32, 32, {}}},
                              {"packed", {1, 200, 2, 2, 20, 24, {3, 120, 0, 77}}}};
  const int threads = omp_get_max_threads();
  for (const Row& row : rows) {
    CAPTURE(row.name);
    for (const kda::Options& options : {plain(), with_everything()}) {
      for (const DType dtype : {DType::f64, DType::f32}) {
        const KDACase c = in_dtype(make_case(row.shape, options, 96, test::Decay::mixed), dtype);
        for (const test::Implementation& implementation : test::implementations()) {
          if (!implementation.fused) {
            continue;
          }
          CAPTURE(implementation.name);
          omp_set_num_threads(1);
          const NamedResults one = run_case(implementation.function, c);
          for (const int count : {2, 3, 8}) {
            CAPTURE(count);
            omp_set_num_threads(count);
            check_same_bits(run_case(implementation.function, c), one);
          }
          omp_set_num_threads(threads);
        }
      }
    }
  }
}

TEST_CASE("kda: states that forward kept change no bit of the fused gradients") {
  // Over several batches of tiles: 64 tokens each, or 256 where threads share one head.
  for (const KDAShape& shape : {KDAShape{1, 600, 1, 1, 6, 5, {}}, KDAShape{2, 300, 2, 4, 6, 5, {}},
                                KDAShape{1, 700, 1, 2, 6, 5, {300, 0, 1, 399}}}) {
    KDACase c = make_case(shape, plain(), 97, test::Decay::mild);
    const NamedResults expected = run_case(&kda::recurrent, c);
    for (const test::Implementation& implementation : test::implementations()) {
      if (!implementation.fused) {
        continue;
      }
      CAPTURE(implementation.name);
      c.options.save_intermediates = false;
      const NamedResults computed_again = run_case(implementation.function, c);
      check_equal(computed_again, expected);
      c.options.save_intermediates = true;
      check_same_bits(run_case(implementation.function, c), computed_again);
    }
  }
}

}  // namespace
}  // namespace deltatape
