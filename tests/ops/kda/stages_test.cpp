// The stages by themselves: the chain forward against kda::chunk, the chain backward against the tape, and every stage
// against its formula.
#include "ops/kda/stages.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "autograd/backward.h"
#include "ops/arithmetic.h"
#include "ops/convert.h"
#include "ops/creation.h"
#include "ops/kda/chunk.h"
#include "ops/kda/gate.h"
#include "ops/kda/recurrent.h"
#include "ops/linalg.h"
#include "ops/reduction.h"
#include "ops/unary.h"
#include "ops/views.h"
#include "tests/ops/kda/kda_cases.h"
#include "tests/support/errors.h"

namespace deltatape {
namespace {

namespace stages = kda::stages;
using test::Decay;
using test::KDACase;
using test::Keys;
using test::make_case;

/// Which of the two forms of the decay the stages are given.
enum class Given : uint8_t { g, g_cumsum, both };

/// All forward stages of a case without gate, norm and sigmoid.
struct Forward {
  stages::StageOptions options;
  Tensor g;
  Tensor g_cumsum;
  stages::Intra intra;
  stages::Recomputed wu;
  stages::Propagated states;
  Tensor o;
};

Forward run_forward(const kda::Inputs& in, const kda::Options& options, Given given = Given::g) {
  Forward f;
  f.options = {.scale = options.scale, .chunk_size = options.chunk_size, .cu_seqlens = in.cu_seqlens};
  if (given != Given::g_cumsum) {
    f.g = in.g;
  }
  if (given != Given::g) {
    f.g_cumsum = kda::gate_cumsum(kda::Gate::none, in.g, Tensor(), Tensor(), -5.0, options.chunk_size, in.cu_seqlens);
  }
  f.intra = stages::intra({in.q, in.k, f.g, f.g_cumsum, in.beta}, f.options);
  f.wu = stages::recompute_w_u({in.q, in.k, in.v, f.g, f.g_cumsum, in.beta, f.intra.Akk}, f.options);
  f.states = stages::propagate_states({f.wu.kg, f.wu.w, f.wu.u, f.g, f.g_cumsum, in.initial_state}, f.options);
  f.o = stages::output_o({f.wu.qg, f.intra.Aqk, f.states.h, f.states.v_new}, f.options);
  return f;
}

/// All backward stages after `f`.
struct Backward {
  stages::AvGradients av;
  stages::StateGradients states;
  stages::WyGradients wy;
  stages::BackwardIntraGradients all;
};

Backward run_backward(const kda::Inputs& in, const Forward& f, const Tensor& d_o, const Tensor& d_ht) {
  Backward b;
  b.av = stages::dAv({d_o, f.states.v_new, f.intra.Aqk}, f.options);
  b.states = stages::dhu({f.wu.qg, f.wu.kg, f.wu.w, f.g, f.g_cumsum, d_o, b.av.dv, d_ht}, f.options);
  b.wy = stages::wy_dqkg({in.q, in.k, in.v, f.g, f.g_cumsum, in.beta, f.intra.Akk, f.states.h, f.states.v_new, d_o,
                          b.states.dh, b.states.dv},
                         f.options);
  b.all = stages::backward_intra(
      {in.q, in.k, f.g, f.g_cumsum, in.beta, b.av.dAqk, b.wy.dAkk, b.wy.dq, b.wy.dk, b.wy.dbeta, b.wy.dg}, f.options);
  return b;
}

/// The stages in the shape in which run_case names its results; the gradients come from the backward stages.
test::NamedResults run_stages(const KDACase& c, Given given) {
  const Forward f = run_forward(c.inputs, c.options, given);
  const Backward b = run_backward(c.inputs, f, c.d_o, c.d_ht);
  test::NamedResults results{
      {"o", f.o},       {"ht", f.states.final_state}, {"dq", b.all.dq}, {"dk", b.all.dk}, {"dv", b.wy.dv},
      {"dg", b.all.dg}, {"dbeta", b.all.dbeta}};
  if (c.inputs.initial_state.defined()) {
    results.emplace_back("dh0", b.states.dh0);
  }
  return results;
}

void check_chain(const KDACase& c, Given given = Given::g, double limit = 1e-10) {
  const test::NamedResults expected = run_case(&kda::recurrent, c);
  const test::NamedResults actual = run_stages(c, given);
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
  options.output_h = true;
  options.chunk_size = chunk_size;
  return options;
}

TEST_CASE("kda::stages: the forward chain equals kda::chunk, states included") {
  for (const int64_t C : {16, 32, 64}) {
    for (const auto& lengths : std::vector<std::vector<int64_t>>{{}, {1, 17, 0, 40, 0, 12}}) {
      const int64_t B = lengths.empty() ? 2 : 1;
      const KDACase c = make_case({B, 70, 2, 4, 6, 5, lengths}, plain(C), 91, Decay::bounded);
      const kda::Output expected = kda::chunk(c.inputs, c.options);
      const Forward f = run_forward(c.inputs, c.options);
      CHECK(test::relative_error(f.o, expected.o) <= 1e-12);
      CHECK(test::relative_error(f.states.h, expected.h) <= 1e-12);
      CHECK(test::relative_error(f.states.final_state, expected.final_state) <= 1e-12);
    }
  }
}

TEST_CASE("kda::stages: both chains equal the recurrence and its tape for every kind of decay and key") {
  for (const Decay decay : {Decay::none, Decay::mild, Decay::bounded, Decay::strong, Decay::mixed, Decay::resets}) {
    for (const Keys keys : {Keys::random, Keys::repeated}) {
      CAPTURE(static_cast<int>(decay));
      CAPTURE(static_cast<int>(keys));
      check_chain(make_case({1, 41, 1, 2, 6, 5, {}}, plain(16), 92, decay, keys));
    }
  }
}

TEST_CASE("kda::stages: both chains at lengths around the chunk size, with grouped heads, and from any scale") {
  for (const int64_t C : {16, 32, 64}) {
    for (const int64_t T : {int64_t{1}, int64_t{2}, C - 1, C, C + 1, int64_t{67}}) {
      CAPTURE(C);
      CAPTURE(T);
      kda::Options options = plain(C);
      options.scale = 0.7;
      check_chain(make_case({2, T, 2, 4, 4, 3, {}}, options, 93, Decay::mixed));
    }
  }
}

TEST_CASE("kda::stages: both chains on packed sequences, with and without states") {
  for (const auto& lengths : std::vector<std::vector<int64_t>>{{41}, {16, 16, 9}, {1, 17, 0, 18, 0, 5}, {0, 0, 41}}) {
    for (const bool with_state : {true, false}) {
      check_chain(make_case({1, 41, 1, 2, 4, 3, lengths}, plain(16), 94, Decay::bounded, Keys::random, with_state));
    }
  }
}

TEST_CASE("kda::stages: the decay may come as its sums, or as both") {
  for (const Decay decay : {Decay::mild, Decay::strong, Decay::mixed}) {
    CAPTURE(static_cast<int>(decay));
    check_chain(make_case({1, 41, 1, 2, 4, 3, {20, 0, 21}}, plain(16), 95, decay), Given::g_cumsum);
    check_chain(make_case({2, 41, 1, 2, 4, 3, {}}, plain(32), 96, decay), Given::both);
  }
}

TEST_CASE("kda::stages: the gradient of a decay of -20 per step is accurate element by element") {
  const KDACase c = make_case({1, 70, 1, 1, 6, 5, {}}, plain(64), 97, Decay::strong);
  std::vector<double> expected;
  for (const auto& named : run_case(&kda::recurrent, c)) {
    if (named.first == "dg") {
      expected = named.second.to_vector<double>();
    }
  }
  const Forward f = run_forward(c.inputs, c.options);
  const auto actual = run_backward(c.inputs, f, c.d_o, c.d_ht).all.dg.to_vector<double>();
  REQUIRE(expected.size() == 70 * 6);
  for (size_t i = 0; i < actual.size(); ++i) {
    CHECK(std::fabs(actual[i] - expected[i]) <= 1e-9 * std::fabs(expected[i]));
  }
}

TEST_CASE("kda::stages: a log decay of minus infinity forgets everything before it") {
  KDACase c = make_case({1, 40, 1, 1, 4, 3, {}}, plain(16), 98);
  std::vector<double> g = c.inputs.g.to_vector<double>();
  for (const size_t step : {size_t{0}, size_t{7}, size_t{16}, size_t{39}}) {
    std::fill_n(g.begin() + static_cast<std::ptrdiff_t>(step * 4), 4, -std::numeric_limits<double>::infinity());
  }
  c.inputs.g = from_vector(g, c.inputs.g.shape());
  check_chain(c);
}

TEST_CASE("kda::stages: f32 stays near f64 under strong decay") {
  KDACase rounded = make_case({1, 130, 1, 1, 16, 16, {}}, plain(64), 99, Decay::mixed);
  KDACase widened = rounded;  // the reference sees the rounded inputs
  const auto tensors = [](KDACase& c) {
    return std::vector<Tensor*>{
        &c.inputs.q, &c.inputs.k, &c.inputs.v, &c.inputs.g, &c.inputs.beta, &c.inputs.initial_state, &c.d_o, &c.d_ht};
  };
  for (size_t i = 0; i < 8; ++i) {
    *tensors(rounded)[i] = to(*tensors(rounded)[i], DType::f32);
    *tensors(widened)[i] = to(*tensors(rounded)[i], DType::f64);
  }
  const test::NamedResults expected = run_case(&kda::recurrent, widened);
  const test::NamedResults actual = run_stages(rounded, Given::g);
  for (size_t i = 0; i < actual.size(); ++i) {
    CAPTURE(expected[i].first);
    CHECK(actual[i].second.dtype() == DType::f32);
    CHECK(test::relative_error(actual[i].second, expected[i].second) <= 2e-5);
  }
}

/// Row t of a chunk matrix [1,T,1,C] as plain numbers.
double entry(const std::vector<double>& matrix, int64_t C, int64_t t, int64_t column) {
  return matrix[static_cast<size_t>(t * C + column)];
}

TEST_CASE("kda::stages: Aqk, Akk, w, u, qg and kg are what the header says, entry by entry") {
  const int64_t T = 41;
  const int64_t C = 16;
  const int64_t K = 3;
  const int64_t V = 2;
  for (const Decay decay : {Decay::mild, Decay::strong, Decay::mixed}) {
    CAPTURE(static_cast<int>(decay));
    kda::Options options = plain(C);
    options.scale = 0.7;
    const KDACase c = make_case({1, T, 1, 1, K, V, {}}, options, 101, decay);
    const Forward f = run_forward(c.inputs, c.options);
    const auto q = c.inputs.q.to_vector<double>();
    const auto k = c.inputs.k.to_vector<double>();
    const auto v = c.inputs.v.to_vector<double>();
    const auto g = c.inputs.g.to_vector<double>();
    const auto beta = c.inputs.beta.to_vector<double>();
    const auto Aqk = f.intra.Aqk.to_vector<double>();
    const auto Akk = f.intra.Akk.to_vector<double>();
    const auto w = f.wu.w.to_vector<double>();
    const auto u = f.wu.u.to_vector<double>();
    const auto qg = f.wu.qg.to_vector<double>();
    const auto kg = f.wu.kg.to_vector<double>();
    const auto at = [](int64_t t, int64_t width, int64_t d) { return static_cast<size_t>(t * width + d); };
    // exp of the sum of g over the steps after `from`, up to `upto`.
    const auto decay_between = [&](int64_t from, int64_t upto, int64_t d) {
      double sum = 0.0;
      for (int64_t t = from + 1; t <= upto; ++t) {
        sum += g[at(t, K, d)];
      }
      return std::exp(sum);
    };
    for (int64_t i = 0; i < T; ++i) {
      const int64_t first = i / C * C;
      const int64_t last = std::min(first + C, T) - 1;
      std::vector<double> M(static_cast<size_t>(C), 0.0);  // row i
      for (int64_t j = first; j <= i; ++j) {
        double qk = 0.0;
        for (int64_t d = 0; d < K; ++d) {
          const double weight = k[at(j, K, d)] * decay_between(j, i, d);
          qk += 0.7 * q[at(i, K, d)] * weight;
          M[static_cast<size_t>(j - first)] += j < i ? beta[static_cast<size_t>(i)] * k[at(i, K, d)] * weight : 0.0;
        }
        CHECK(std::fabs(entry(Aqk, C, i, j - first) - qk) <= 1e-13);
      }
      for (int64_t column = 0; column < C; ++column) {
        if (first + column > i) {
          CHECK(entry(Aqk, C, i, column) == 0.0);
          CHECK(entry(Akk, C, i, column) == 0.0);
        }
        // Row i of (I + M) Akk is a row of the identity.
        double product = entry(Akk, C, i, column);
        for (int64_t j = first; j < i; ++j) {
          product += M[static_cast<size_t>(j - first)] * entry(Akk, C, j, column);
        }
        CHECK(std::fabs(product - (first + column == i ? 1.0 : 0.0)) <= 1e-13);
      }
      // (I + M) w = beta k exp(G) and (I + M) u = beta v.
      for (int64_t d = 0; d < K; ++d) {
        double left = w[at(i, K, d)];
        for (int64_t j = first; j < i; ++j) {
          left += M[static_cast<size_t>(j - first)] * w[at(j, K, d)];
        }
        const double from_start = decay_between(first - 1, i, d);
        CHECK(std::fabs(left - beta[static_cast<size_t>(i)] * k[at(i, K, d)] * from_start) <= 1e-13);
        CHECK(std::fabs(qg[at(i, K, d)] - q[at(i, K, d)] * from_start) <= 1e-13);
        CHECK(std::fabs(kg[at(i, K, d)] - k[at(i, K, d)] * decay_between(i, last, d)) <= 1e-13);
      }
      for (int64_t d = 0; d < V; ++d) {
        double left = u[at(i, V, d)];
        for (int64_t j = first; j < i; ++j) {
          left += M[static_cast<size_t>(j - first)] * u[at(j, V, d)];
        }
        CHECK(std::fabs(left - beta[static_cast<size_t>(i)] * v[at(i, V, d)]) <= 1e-13);
      }
    }
  }
}

Tensor leaf(const Tensor& x) {
  Tensor copy = x.detach();
  copy.set_requires_grad();
  return copy;
}

std::vector<Tensor> gradients_of(const std::vector<Tensor>& outputs, const std::vector<Tensor>& upstream,
                                 const std::vector<Tensor>& wanted) {
  return grad(outputs, wanted, upstream);
}

/// -stril(A' dA A') of every chunk, from and to [1,T,1,C] with T a multiple of C.
Tensor sandwich(const Tensor& A, const Tensor& dA, int64_t C) {
  const Shape chunks{A.size(1) / C, C, C};
  const Tensor left = transpose(reshape(A, chunks), -1, -2);
  return reshape(neg(tril(matmul(matmul(left, reshape(dA, chunks)), left), -1)), A.shape());
}

TEST_CASE("kda::stages: every backward stage returns the part that it says, by the tape") {
  const int64_t C = 16;
  const KDACase c = make_case({1, 48, 1, 1, 4, 3, {}}, plain(C), 102, Decay::bounded);
  const kda::Inputs& in = c.inputs;
  const Forward f = run_forward(in, c.options);
  const Backward b = run_backward(in, f, c.d_o, c.d_ht);
  const stages::StageOptions& options = f.options;
  const auto close = [](const Tensor& actual, const Tensor& expected) {
    return test::relative_error(actual, expected) <= 1e-11;
  };

  // dAv: through the output alone, at the entries that Aqk has.
  {
    const Tensor Aqk = leaf(f.intra.Aqk);
    const Tensor v_new = leaf(f.states.v_new);
    const auto d = gradients_of({stages::output_o({f.wu.qg, Aqk, f.states.h, v_new}, options)}, {c.d_o}, {Aqk, v_new});
    CHECK(close(b.av.dAqk, reshape(tril(reshape(d[0], {3, C, C})), d[0].shape())));
    CHECK(close(b.av.dv, d[1]));
  }
  // dhu: the gradient of v_new is that of u; dh of a chunk is that of the state before the next one, and dht at last.
  {
    const Tensor u = leaf(f.wu.u);
    const Tensor h0 = leaf(in.initial_state);
    const auto states = stages::propagate_states({f.wu.kg, f.wu.w, u, in.g, Tensor(), h0}, options);
    const Tensor o = stages::output_o({f.wu.qg, f.intra.Aqk, states.h, states.v_new}, options);
    const auto d = gradients_of({o, states.final_state}, {c.d_o, c.d_ht}, {u, h0});
    CHECK(close(b.states.dv, d[0]));
    CHECK(close(b.states.dh0, d[1]));
    CHECK(close(select(b.states.dh, 1, 2), c.d_ht));
    for (const int64_t border : {1, 2}) {  // the rest of the text from the state at a border
      const auto rest = [&](const Tensor& x) { return contiguous(slice(x, 1, {border * C, std::nullopt})); };
      const Tensor state = leaf(select(f.states.h, 1, border));
      kda::Inputs tail;
      tail.q = rest(in.q);
      tail.k = rest(in.k);
      tail.v = rest(in.v);
      tail.g = rest(in.g);
      tail.beta = rest(in.beta);
      tail.initial_state = state;
      const kda::Output out = kda::recurrent(tail, c.options);
      const auto dS = gradients_of({out.o, out.final_state}, {rest(c.d_o), c.d_ht}, {state});
      CHECK(close(select(b.states.dh, 1, border - 1), dS[0]));
    }
  }
  // wy_dqkg: everything with Aqk and Akk held fixed; and from the gradient of Akk that of M.
  {
    kda::Inputs x = in;
    for (Tensor* member : {&x.q, &x.k, &x.v, &x.g, &x.beta}) {
      *member = leaf(*member);
    }
    const Tensor Akk = leaf(f.intra.Akk);
    const auto wu = stages::recompute_w_u({x.q, x.k, x.v, x.g, Tensor(), x.beta, Akk}, options);
    const auto states = stages::propagate_states({wu.kg, wu.w, wu.u, x.g, Tensor(), in.initial_state}, options);
    const Tensor o = stages::output_o({wu.qg, f.intra.Aqk, states.h, states.v_new}, options);
    const auto d = gradients_of({o, states.final_state}, {c.d_o, c.d_ht}, {x.q, x.k, x.v, x.beta, x.g, Akk});
    CHECK(close(b.wy.dq, d[0]));
    CHECK(close(b.wy.dk, d[1]));
    CHECK(close(b.wy.dv, d[2]));
    CHECK(close(b.wy.dbeta, d[3]));
    CHECK(close(b.wy.dg, d[4]));
    CHECK(close(b.wy.dAkk, sandwich(f.intra.Akk, d[5], C)));
  }
  // backward_intra without earlier parts: the adjoint of intra.
  {
    kda::Inputs x = in;
    for (Tensor* member : {&x.q, &x.k, &x.g, &x.beta}) {
      *member = leaf(*member);
    }
    const auto matrices = stages::intra({x.q, x.k, x.g, Tensor(), x.beta}, options);
    const Tensor dAqk = b.av.dAqk;
    const Tensor dA = add(f.intra.Aqk, 0.25);  // any matrix
    const auto d = gradients_of({matrices.Aqk, matrices.Akk}, {dAqk, dA}, {x.q, x.k, x.beta, x.g});
    stages::BackwardIntraInputs alone;
    alone.q = in.q;
    alone.k = in.k;
    alone.g = in.g;
    alone.beta = in.beta;
    alone.dAqk = dAqk;
    alone.dAkk = sandwich(f.intra.Akk, dA, C);
    const auto actual = stages::backward_intra(alone, options);
    CHECK(close(actual.dq, d[0]));
    CHECK(close(actual.dk, d[1]));
    CHECK(close(actual.dbeta, d[2]));
    CHECK(close(actual.dg, d[3]));
  }
}

TEST_CASE("kda::stages: dAkk is strictly lower and dAqk lower, and what stands above is not read") {
  const int64_t C = 16;
  const KDACase c = make_case({1, 41, 1, 2, 4, 3, {25, 16}}, plain(C), 103);
  const Forward f = run_forward(c.inputs, c.options);
  const Backward b = run_backward(c.inputs, f, c.d_o, c.d_ht);
  const auto dAkk = b.wy.dAkk.to_vector<double>();
  const auto dAqk = b.av.dAqk.to_vector<double>();
  std::vector<double> spoilt_dAkk = dAkk;
  std::vector<double> spoilt_dAqk = dAqk;
  bool lower_used = false;
  for (size_t i = 0; i < dAkk.size(); ++i) {
    const auto token = static_cast<int64_t>(i) / (2 * C);
    const int64_t row = (token < 25 ? token : token - 25) % C;
    const int64_t column = static_cast<int64_t>(i) % C;
    if (column >= row) {
      CHECK(dAkk[i] == 0.0);
      spoilt_dAkk[i] = std::numeric_limits<double>::quiet_NaN();
    } else {
      lower_used = lower_used || dAkk[i] != 0.0;
    }
    if (column > row) {
      CHECK(dAqk[i] == 0.0);
      spoilt_dAqk[i] = std::numeric_limits<double>::infinity();
    }
  }
  CHECK(lower_used);
  stages::BackwardIntraInputs in;
  in.q = c.inputs.q;
  in.k = c.inputs.k;
  in.g = c.inputs.g;
  in.beta = c.inputs.beta;
  in.dAqk = from_vector(spoilt_dAqk, b.av.dAqk.shape());
  in.dAkk = from_vector(spoilt_dAkk, b.wy.dAkk.shape());
  in.dq = b.wy.dq;
  in.dk = b.wy.dk;
  in.dbeta = b.wy.dbeta;
  in.dg = b.wy.dg;
  const auto spoilt = stages::backward_intra(in, f.options);
  CHECK(test::largest_difference(spoilt.dq, b.all.dq) == 0.0);
  CHECK(test::largest_difference(spoilt.dk, b.all.dk) == 0.0);
  CHECK(test::largest_difference(spoilt.dbeta, b.all.dbeta) == 0.0);
  CHECK(test::largest_difference(spoilt.dg, b.all.dg) == 0.0);
}

TEST_CASE("kda::stages: the tape through the forward stages equals the tape through kda::chunk") {
  const KDACase c = make_case({1, 37, 1, 2, 4, 3, {20, 0, 17}}, plain(16), 104, Decay::bounded);
  const test::KDAFunction chain = [](const kda::Inputs& in, const kda::Options& options) {
    const Forward f = run_forward(in, options);
    kda::Output out;
    out.o = f.o;
    out.final_state = f.states.final_state;
    return out;
  };
  const test::NamedResults expected = run_case(&kda::chunk, c);
  const test::NamedResults actual = run_case(chain, c);
  for (size_t i = 0; i < actual.size(); ++i) {
    CAPTURE(expected[i].first);
    CHECK(test::relative_error(actual[i].second, expected[i].second) <= 1e-11);
  }
}

TEST_CASE("kda::stages: the whole way from gate logits, through gate_cumsum and gate_backward") {
  kda::Options options = plain(16);
  options.gate = kda::Gate::lower_bound;
  const KDACase c = make_case({1, 37, 1, 2, 4, 3, {}}, options, 105);
  KDACase gated = c;
  gated.inputs.g = kda::apply_gate(c.options.gate, c.inputs.g, c.inputs.A_log, c.inputs.dt_bias, -5.0);
  const Forward f = run_forward(gated.inputs, gated.options);
  const Backward b = run_backward(gated.inputs, f, c.d_o, c.d_ht);
  const kda::GateGradients gate =
      kda::gate_backward(c.options.gate, b.all.dg, c.inputs.g, c.inputs.A_log, c.inputs.dt_bias, -5.0);
  for (const auto& named : run_case(&kda::recurrent, c)) {
    const std::string& name = named.first;
    CAPTURE(name);
    if (name == "dg") {
      CHECK(test::relative_error(gate.dg, named.second) <= 1e-11);
    } else if (name == "dA_log") {
      CHECK(test::relative_error(gate.dA_log, named.second) <= 1e-11);
    } else if (name == "ddt_bias") {
      CHECK(test::relative_error(gate.ddt_bias, named.second) <= 1e-11);
    }
  }
}

TEST_CASE("kda::stages: without time steps the state passes through") {
  for (const auto& lengths : std::vector<std::vector<int64_t>>{{}, {0, 0}}) {
    const int64_t B = lengths.empty() ? 2 : 1;
    const KDACase c = make_case({B, 0, 1, 2, 4, 3, lengths}, plain(16), 106);
    const Forward f = run_forward(c.inputs, c.options);
    const Backward b = run_backward(c.inputs, f, c.d_o, c.d_ht);
    CHECK(f.o.shape() == Shape{B, 0, 2, 3});
    CHECK(f.states.h.shape() == Shape{B, 0, 2, 4, 3});
    CHECK(test::largest_difference(f.states.final_state, c.inputs.initial_state) == 0.0);
    CHECK(test::largest_difference(b.states.dh0, c.d_ht) == 0.0);
    CHECK(b.all.dq.shape() == c.inputs.q.shape());
  }
}

TEST_CASE("kda::stages: what they refuse") {
  const auto f64 = [](const Shape& shape) { return zeros(shape, {DType::f64, Device::cpu()}); };
  stages::IntraInputs in;
  in.q = f64({1, 5, 2, 4});
  in.k = f64({1, 5, 2, 4});
  in.g = f64({1, 5, 4, 4});
  in.beta = f64({1, 5, 4});
  CHECK_NOTHROW(stages::intra(in));
  const auto changed = [&in](Tensor stages::IntraInputs::*member, const Tensor& x) {
    stages::IntraInputs copy = in;
    copy.*member = x;
    return copy;
  };
  using Inputs = stages::IntraInputs;
  CHECK_ERROR(stages::intra(changed(&Inputs::q, Tensor())), "kda::stages::intra: q is undefined, expected a tensor");
  CHECK_ERROR(stages::intra(changed(&Inputs::q, f64({5, 8}))),
              "kda::stages::intra: q has shape [5, 8], expected rank 3 or more, [B, T, ..]");
  CHECK_ERROR(stages::intra(changed(&Inputs::q, to(in.q, DType::bf16))),
              "kda::stages::intra: q has dtype bf16, expected f32 or f64");
  CHECK_ERROR(stages::intra(changed(&Inputs::k, f64({1, 5, 2, 3}))),
              "kda::stages::intra: k has shape [1, 5, 2, 3], expected [B, T, H, K] = [1, 5, 2, 4]");
  CHECK_ERROR(stages::intra(changed(&Inputs::k, f64({1, 5, 8}))),
              "kda::stages::intra: k has shape [1, 5, 8], expected rank 4, [B, T, H, K]");
  CHECK_ERROR(stages::intra(changed(&Inputs::k, to(in.k, DType::f32))),
              "kda::stages::intra: k has dtype f32, expected f64");
  CHECK_ERROR(stages::intra(changed(&Inputs::beta, f64({1, 5, 3}))),
              "kda::stages::intra: g has shape [1, 5, 4, 4], expected [B, T, HV, K] = [1, 5, 3, 4]");
  CHECK_ERROR(stages::intra(changed(&Inputs::g, Tensor())),
              "kda::stages::intra: g and g_cumsum are both missing, expected at least one, [B, T, HV, K]");
  stages::IntraInputs odd = changed(&Inputs::beta, f64({1, 5, 3}));
  odd.g = f64({1, 5, 3, 4});
  CHECK_ERROR(stages::intra(odd), "kda::stages::intra: HV is 3, expected a multiple of H = 2");
  CHECK_ERROR(stages::intra(in, {.chunk_size = 8}), "kda::stages::intra: chunk_size is 8, expected 16, 32 or 64");
  CHECK_ERROR(stages::intra(in, {.scale = std::nan("")}), "kda::stages::intra: scale is nan, expected a finite number");
  CHECK_ERROR(stages::intra(in, {.cu_seqlens = from_vector(std::vector<int64_t>{0, 4})}),
              "kda::stages::intra: cu_seqlens ends with 4, expected T = 5");
  const Tensor x = f64({1, 20, 2, 4});
  CHECK_ERROR(stages::output_o({x, f64({1, 20, 2, 64}), f64({1, 2, 2, 4, 4}), x}),
              "kda::stages::output_o: h has shape [1, 2, 2, 4, 4], expected [B, NT, HV, K, V] = [1, 1, 2, 4, 4]");
  CHECK_ERROR(stages::propagate_states({x, x, x, x, Tensor(), f64({2, 2, 4, 4})}),
              "kda::stages::propagate_states: initial_state has shape [2, 2, 4, 4], expected [N, HV, K, V] = "
              "[1, 2, 4, 4]");
  CHECK_ERROR(stages::dAv({x, x, f64({1, 20, 2, 16})}),
              "kda::stages::dAv: Aqk has shape [1, 20, 2, 16], expected [B, T, HV, C] = [1, 20, 2, 64]");
}

}  // namespace
}  // namespace deltatape
