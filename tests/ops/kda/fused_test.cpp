// What is particular to the fused calls as ops: what they keep for backward, and calls without tokens.
#include "ops/kda/fused.h"

#include <doctest/doctest.h>

#include <limits>

#include "autograd/backward.h"
#include "core/storage.h"
#include "ops/creation.h"
#include "ops/inplace.h"
#include "ops/ops.h"
#include "tests/ops/kda/kda_cases.h"
#include "tests/support/errors.h"

namespace deltatape {
namespace {

using test::KDACase;
using test::make_case;

TEST_CASE("kda: bounds that were written over between forward and backward are noticed") {
  KDACase c = make_case({1, 6, 1, 1, 4, 3, {3, 3}}, {}, 1);
  c.inputs.q.set_requires_grad();
  const kda::Output out = kda::fused_chunk(c.inputs);
  c.inputs.cu_seqlens.mutable_data<int64_t>()[1] = 1;
  const std::string error = test::error_of([&] { grad(out.o, c.inputs.q, c.d_o); });
  CHECK(error.find("modified in place") != std::string::npos);
}

TEST_CASE("kda: without tokens every implementation gives zero gradients, and that of the initial state") {
  kda::Options options;
  options.gate = kda::Gate::standard;
  options.output_final_state = true;
  for (const test::Implementation& implementation : test::implementations()) {
    CAPTURE(implementation.name);
    KDACase c = make_case({2, 0, 1, 2, 4, 3, {}}, options, 2);
    for (Tensor* x : {&c.inputs.q, &c.inputs.A_log, &c.inputs.initial_state}) {
      x->set_requires_grad();
    }
    const kda::Output out = implementation.function(c.inputs, c.options);
    const std::vector<Tensor> gradients = grad(std::vector<Tensor>{out.o, out.final_state},
                                               std::vector<Tensor>{c.inputs.q, c.inputs.A_log, c.inputs.initial_state},
                                               std::vector<Tensor>{c.d_o, c.d_ht});
    CHECK(gradients[0].shape() == c.inputs.q.shape());
    CHECK(test::largest_difference(gradients[1], zeros_like(c.inputs.A_log)) == 0.0);
    CHECK(test::largest_difference(gradients[2], c.d_ht) == 0.0);

    // Only q asks for a gradient, and the loss sees the final state alone.
    KDACase only_q = make_case({2, 0, 1, 2, 4, 3, {}}, options, 2, test::Decay::mild, test::Keys::random, false);
    only_q.inputs.q.set_requires_grad();
    const kda::Output state = implementation.function(only_q.inputs, only_q.options);
    CHECK(grad(state.final_state, only_q.inputs.q, only_q.d_ht).shape() == only_q.inputs.q.shape());
  }
}

TEST_CASE("kda: sizes whose rows fill no register, with and without kept states, as composed") {
  // Working memory is cut into pieces that begin on cache lines: these sizes are not whole lines, whatever the
  // register.
  const std::vector<test::KDAShape> shapes{{1, 5, 1, 1, 1, 1, {}},  {1, 65, 1, 1, 3, 2, {}},  {1, 33, 1, 3, 5, 7, {}},
                                           {1, 5, 1, 1, 3, 20, {}}, {1, 70, 1, 1, 1, 20, {}}, {1, 130, 1, 1, 7, 33, {}},
                                           {2, 18, 1, 2, 33, 1, {}}};
  for (const test::KDAShape& shape : shapes) {
    for (const bool save_intermediates : {false, true}) {
      CAPTURE(shape.K);
      CAPTURE(shape.V);
      CAPTURE(shape.T);
      CAPTURE(save_intermediates);
      KDACase c = make_case(shape, {}, 3);
      const test::NamedResults expected = test::run_case(kda::recurrent, c);
      c.options.save_intermediates = save_intermediates;
      for (const DType dtype : {DType::f64, DType::f32}) {
        const test::NamedResults actual = test::run_case(kda::fused_chunk, test::in_dtype(c, dtype));
        REQUIRE(actual.size() == expected.size());
        for (const auto& result : expected) {
          CAPTURE(result.first);
          const Tensor found = to(test::find(actual, result.first), DType::f64);
          CHECK(test::relative_error(found, result.second) <= (dtype == DType::f64 ? 1e-12 : 2e-5));
        }
      }
    }
  }
}

TEST_CASE("kda: a NaN in q or k stands in the gradients where the composed forms have it") {
  for (const bool l2norm : {false, true}) {
    kda::Options options;
    options.use_qk_l2norm = l2norm;
    KDACase c = make_case({1, 40, 1, 1, 8, 4, {}}, options, 4, test::Decay::mild, test::Keys::random, false);
    c.inputs.q.mutable_data<double>()[20 * 8 + 3] = std::numeric_limits<double>::quiet_NaN();
    const auto places = [&](kda::Output (*function)(const kda::Inputs&, const kda::Options&)) {
      return isnan(test::find(test::run_case(function, c), "dq"));
    };
    const Tensor composed = places(kda::recurrent);
    CAPTURE(l2norm);
    CHECK(any(composed) == l2norm);
    CHECK(test::same_bits(places(kda::fused_chunk), composed));
    CHECK(test::same_bits(places(kda::fused_recurrent), composed));
  }
}

TEST_CASE("kda: kept states are one for every 64 tokens that others follow") {
  kda::Options options;
  options.save_intermediates = true;
  const auto kept_bytes = [&](const std::vector<int64_t>& lengths) {
    int64_t T = 0;
    for (const int64_t length : lengths) {
      T += length;
    }
    KDACase c = make_case({1, T, 1, 2, 4, 16, lengths}, options, 3);
    c.inputs.q.set_requires_grad();
    const int64_t before = memory_stats().live_bytes;
    const kda::Output with = kda::fused_chunk(c.inputs, options);
    const int64_t kept = memory_stats().live_bytes - before;
    options.save_intermediates = false;
    const int64_t between = memory_stats().live_bytes;
    const kda::Output without = kda::fused_chunk(c.inputs, options);
    options.save_intermediates = true;
    return kept - (memory_stats().live_bytes - between);
  };
  constexpr int64_t kState = 2 * 4 * 16 * 8;  // both heads, f64
  CHECK(kept_bytes({1, 64, 30, 0, 64}) == 0);
  CHECK(kept_bytes({65}) >= kState);
  CHECK(kept_bytes({65}) < 2 * kState);
  CHECK(kept_bytes({200, 129}) >= 5 * kState);
  CHECK(kept_bytes({200, 129}) < 6 * kState);
}

TEST_CASE("kda: a rate that overflows has a gradient of zero where its factor is zero") {
  // exp(88) softplus(z) is infinite in f32 and forgets everything; nothing depends on it any more.
  kda::Options options;
  options.gate = kda::Gate::standard;
  for (const test::Implementation& implementation : test::implementations()) {
    CAPTURE(implementation.name);
    KDACase c = test::in_dtype(make_case({1, 5, 1, 1, 4, 3, {}}, options, 4), DType::f32);
    c.inputs.A_log = full({1}, 88.0, c.inputs.q.options());
    c.inputs.g = full(c.inputs.g.shape(), 10.0, c.inputs.q.options());
    c.inputs.A_log.set_requires_grad();
    const kda::Output out = implementation.function(c.inputs, c.options);
    CHECK(grad(out.o, c.inputs.A_log, c.d_o).item() == 0.0);
  }
}

TEST_CASE("kda: sizes that leave registers half empty, in every width") {
  for (const int64_t K : {1, 3, 5, 8, 16, 17}) {
    for (const int64_t V : {1, 7, 8, 24, 33}) {
      CAPTURE(K);
      CAPTURE(V);
      const KDACase c = make_case({1, 70, 1, 2, K, V, {}}, {}, 5);
      const test::NamedResults expected = run_case(&kda::recurrent, c);
      for (const auto function : {&kda::fused_recurrent, &kda::fused_chunk}) {
        const test::NamedResults results = run_case(function, c);
        for (size_t i = 0; i < expected.size(); ++i) {
          CAPTURE(expected[i].first);
          CHECK(test::relative_error(results[i].second, expected[i].second) <= 1e-9);
        }
      }
    }
  }
}

}  // namespace
}  // namespace deltatape
