#include "ops/kda/decay.h"

#include <doctest/doctest.h>

#include <cmath>

#include "ops/convert.h"
#include "ops/views.h"
#include "tests/ops/kda/kda_cases.h"

namespace deltatape {
namespace {

TEST_CASE("exclusive_suffix_sum: what follows, without what is there") {
  const Tensor x = from_vector(std::vector<double>{1, 2, 3, 10, 20, 30}, {2, 3});
  CHECK(kda::exclusive_suffix_sum(x, 1).to_vector<double>() == std::vector<double>{5, 3, 0, 50, 30, 0});
  CHECK(kda::exclusive_suffix_sum(x, 0).to_vector<double>() == std::vector<double>{10, 20, 30, 0, 0, 0});
  // A huge last entry does not disturb the small ones after it.
  const Tensor y = from_vector(std::vector<float>{-1e9F, -1.0F, -0.5F}, {1, 3});
  CHECK(kda::exclusive_suffix_sum(y, 1).to_vector<double>() == std::vector<double>{-1.5, -0.5, 0.0});
}

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
