// The plain model of the chunk backward against the recurrence, and what rounding to bf16 costs it.
#include "tests/backends/cuda/kda/v1/chunk_model.h"

#include <doctest/doctest.h>

#include "tests/backends/cuda/kda/v1/gate_sets.h"
#include "tests/backends/cuda/kda/v1/rounding_limits.h"

namespace deltatape::test::kda_v1 {
namespace {

double worst(const HeadGradients<double>& a, const HeadGradients<double>& b) {
  double w = std::max(relative_rms(a.o.x, b.o.x), relative_rms(a.ht.x, b.ht.x));
  w = std::max({w, relative_rms(a.dq.x, b.dq.x), relative_rms(a.dk.x, b.dk.x), relative_rms(a.dv.x, b.dv.x)});
  return std::max({w, relative_rms(a.dg.x, b.dg.x), relative_rms(a.dbeta, b.dbeta), relative_rms(a.dh0.x, b.dh0.x)});
}

TEST_CASE("kda v1 model: the chunk form is the recurrence") {
  for (const GateSet set : kGateSets) {
    for (const int T : {1, 15, 16, 17, 63, 64, 65, 130}) {
      const HeadInputs<double> in = draw_head(set, T, 12, 20, 3);
      const HeadGradients<double> expected = token_recurrence(in);
      for (const int chunk : {32, 64}) {
        for (const bool safe : {false, true}) {
          if (safe && set == GateSet::unbounded) {
            continue;  // the centred leaf is for gates in [-5, 0]
          }
          ModelOptions options;
          options.chunk = chunk;
          options.safe_leaf = safe;
          CAPTURE(name_of(set));
          CAPTURE(T);
          CAPTURE(chunk);
          CHECK(worst(ChunkModel<double>(in, options).results(), expected) <= 1e-12);
        }
      }
    }
  }
}

TEST_CASE("kda v1 model: the rounding points cost what the kernels' limits allow") {
  for (const GateSet set : kGateSets) {
    const HeadInputs<double> in = draw_head(set, 512, 128, 128, 11, false);
    const HeadGradients<double> expected = token_recurrence(in);
    const RoundingErrors limits = emulated_errors(set);
    const HeadInputs<float> rounded = converted<float>(in);
    for (const bool safe : {false, true}) {
      if (safe && set == GateSet::unbounded) {
        continue;
      }
      ModelOptions options;
      options.bf16 = true;
      options.safe_leaf = safe;
      const ChunkModel<float> model(rounded, options);
      const HeadGradients<float>& got = model.results();
      CAPTURE(name_of(set));
      CAPTURE(safe);
      CHECK(relative_rms(got.o.x, expected.o.x) <= kRoundingAllowance * limits.o);
      CHECK(relative_rms(got.ht.x, expected.ht.x) <= kRoundingAllowance * limits.ht);
      CHECK(relative_rms(got.dq.x, expected.dq.x) <= kRoundingAllowance * limits.dq);
      CHECK(relative_rms(got.dk.x, expected.dk.x) <= kRoundingAllowance * limits.dk);
      CHECK(relative_rms(got.dv.x, expected.dv.x) <= kRoundingAllowance * limits.dv);
      CHECK(relative_rms(got.dg.x, expected.dg.x) <= kRoundingAllowance * limits.dg);
      CHECK(relative_rms(got.dbeta, expected.dbeta) <= kRoundingAllowance * limits.dbeta);
      CHECK(relative_rms(got.dh0.x, expected.dh0.x) <= kRoundingAllowance * limits.dh0);
    }
  }
}

TEST_CASE("kda v1 model: dg needs both rules where gates are steep") {
  const HeadInputs<double> in = draw_head(GateSet::steep, 512, 128, 128, 11, false);
  const HeadGradients<double> expected = token_recurrence(in);
  const double limit = kRoundingAllowance * emulated_errors(GateSet::steep).dg;
  const auto error = [&](bool diagonal_apart, bool same_factors) {
    ModelOptions options;
    options.bf16 = options.safe_leaf = true;
    options.diagonal_apart = diagonal_apart;
    options.same_factors = same_factors;
    return relative_rms(ChunkModel<float>(converted<float>(in), options).results().dg.x, expected.dg.x);
  };
  CHECK(error(true, true) <= limit);
  CHECK(error(true, false) > 2 * limit);
  CHECK(error(false, false) > 8 * limit);
}

}  // namespace
}  // namespace deltatape::test::kda_v1
