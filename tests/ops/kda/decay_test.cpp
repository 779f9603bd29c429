#include "ops/kda/decay.h"

#include <doctest/doctest.h>

#include <cmath>

#include "autograd/backward.h"
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

TEST_CASE("decayed_products_backward: equals the tape at every chunk size and for every kind of decay") {
  using test::Decay;
  for (const int64_t C : {2, 16, 64}) {
    for (const Decay decay : {Decay::none, Decay::mild, Decay::strong, Decay::mixed, Decay::resets}) {
      CAPTURE(C);
      CAPTURE(static_cast<int>(decay));
      const Shape rows{2, C, 3};
      const test::KDACase c = make_case({2, C, 1, 1, 3, C, {}}, {}, 19, decay);
      const auto leaf = [&](const Tensor& x) {
        Tensor copy = reshape(x, rows).detach();
        copy.set_requires_grad();
        return copy;
      };
      const Tensor q = leaf(c.inputs.q);
      const Tensor k = leaf(c.inputs.k);
      const Tensor g = leaf(c.inputs.g);
      const Tensor dkk = reshape(c.inputs.v, {2, C, C});
      const Tensor dqk = reshape(c.d_o, {2, C, C});
      const kda::DecayedProducts products = kda::decayed_products(q, k, g);
      const std::vector<Tensor> outputs{products.kk, products.qk};
      const std::vector<Tensor> upstream{dkk, dqk};
      const std::vector<Tensor> wanted{q, k, g};
      const std::vector<Tensor> expected = grad(outputs, wanted, upstream);
      const kda::DecayedProductGradients actual =
          kda::decayed_products_backward(q.detach(), k.detach(), g.detach(), dkk, dqk);
      CHECK(test::largest_difference(actual.dq, expected[0]) <= 1e-13);
      CHECK(test::largest_difference(actual.dk, expected[1]) <= 1e-13);
      CHECK(test::largest_difference(actual.dg, expected[2]) <= 1e-13);
      // Small gradients behind strong decay keep their digits.
      const auto exact = expected[2].to_vector<double>();
      const auto dg = actual.dg.to_vector<double>();
      for (size_t i = 0; i < dg.size(); ++i) {
        CHECK((std::fabs(dg[i] - exact[i]) <= 1e-9 * std::fabs(exact[i]) || exact[i] == 0.0));
      }
    }
  }
}

TEST_CASE("decay_from_start, decay_to_end, whole_decay: equal what decayed_products gives") {
  const test::KDACase c = make_case({1, 32, 1, 1, 3, 1, {}}, {}, 21, test::Decay::mixed);
  const Tensor g = reshape(c.inputs.g, {1, 32, 3});
  const kda::DecayedProducts products = kda::decayed_products(g, g, g);
  CHECK(test::largest_difference(kda::decay_from_start(g), products.from_start) <= 1e-14);
  CHECK(test::largest_difference(kda::decay_to_end(g), products.to_end) <= 1e-14);
  CHECK(test::largest_difference(transpose(kda::whole_decay(g), -1, -2), products.whole) <= 1e-14);
}

}  // namespace
}  // namespace deltatape
