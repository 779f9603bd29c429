#include "ops/kda/decay.h"

#include <doctest/doctest.h>

#include <cmath>

#include "ops/convert.h"
#include "ops/views.h"
#include "tests/ops/kda/kda_cases.h"

namespace deltatape {
namespace {

TEST_CASE("decayed_products: equals plain loops at every chunk size and for every kind of decay") {
  using test::Decay;
  for (const int64_t C : {1, 2, 16, 32, 64}) {
    for (const Decay decay : {Decay::none, Decay::mild, Decay::bounded, Decay::strong, Decay::mixed, Decay::resets}) {
      CAPTURE(C);
      CAPTURE(static_cast<int>(decay));
      const int64_t K = 3;
      const test::KDACase c = make_case({1, C, 1, 1, K, 1, {}}, {}, 17, decay);
      const auto flat = [&](const Tensor& x) { return reshape(x, {1, C, K}); };
      const auto q = c.inputs.q.to_vector<double>();
      const auto k = c.inputs.k.to_vector<double>();
      const auto g = c.inputs.g.to_vector<double>();
      std::vector<double> kk(static_cast<size_t>(C * C), 0.0);
      std::vector<double> qk(static_cast<size_t>(C * C), 0.0);
      std::vector<double> from_start(static_cast<size_t>(C * K), 1.0);
      std::vector<double> to_end(static_cast<size_t>(C * K), 1.0);
      for (int64_t i = 0; i < C; ++i) {
        for (int64_t r = 0; r < C; ++r) {
          for (int64_t d = 0; d < K; ++d) {
            (r <= i ? from_start : to_end)[static_cast<size_t>(i * K + d)] *=
                std::exp(g[static_cast<size_t>(r * K + d)]);
          }
        }
      }
      for (int64_t i = 0; i < C; ++i) {
        for (int64_t j = 0; j <= i; ++j) {
          for (int64_t d = 0; d < K; ++d) {
            double exponent = 0.0;
            for (int64_t r = j + 1; r <= i; ++r) {
              exponent += g[static_cast<size_t>(r * K + d)];
            }
            const double weight = k[static_cast<size_t>(j * K + d)] * std::exp(exponent);
            kk[static_cast<size_t>(i * C + j)] += i > j ? k[static_cast<size_t>(i * K + d)] * weight : 0.0;
            qk[static_cast<size_t>(i * C + j)] += q[static_cast<size_t>(i * K + d)] * weight;
          }
        }
      }
      const kda::DecayedProducts f64 = kda::decayed_products(flat(c.inputs.q), flat(c.inputs.k), flat(c.inputs.g));
      CHECK(test::largest_difference(f64.kk, from_vector(kk, {1, C, C})) <= 1e-14);
      CHECK(test::largest_difference(f64.qk, from_vector(qk, {1, C, C})) <= 1e-14);
      CHECK(test::largest_difference(f64.from_start, from_vector(from_start, {1, C, K})) <= 1e-14);
      CHECK(test::largest_difference(f64.to_end, from_vector(to_end, {1, C, K})) <= 1e-14);
      CHECK(test::largest_difference(f64.whole, slice(f64.from_start, 1, {-1, std::nullopt})) <= 1e-14);
      const auto narrow = [&](const Tensor& x) { return to(flat(x), DType::f32); };
      const kda::DecayedProducts f32 =
          kda::decayed_products(narrow(c.inputs.q), narrow(c.inputs.k), narrow(c.inputs.g));
      CHECK(test::largest_difference(f32.kk, from_vector(kk, {1, C, C})) <= 2e-6);
      CHECK(test::largest_difference(f32.qk, from_vector(qk, {1, C, C})) <= 2e-6);
    }
  }
}

}  // namespace
}  // namespace deltatape
