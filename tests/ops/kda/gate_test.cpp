// The gate and its sums by themselves, held against the tape, closed forms and plain loops.
#include "ops/kda/gate.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "autograd/backward.h"
#include "core/generator.h"
#include "ops/arithmetic.h"
#include "ops/convert.h"
#include "ops/creation.h"
#include "ops/reduction.h"
#include "ops/views.h"
#include "tests/ops/kda/kda_cases.h"
#include "tests/support/errors.h"

namespace deltatape {
namespace {

Tensor uniform(const Shape& shape, double low, double high, uint64_t seed) {
  Generator generator(seed);
  std::vector<double> values(static_cast<size_t>(shape.numel()));
  for (double& value : values) {
    value = low + (high - low) * generator.next_uniform();
  }
  return from_vector(values, shape);
}

/// Gate logits with everything from -30 to 30, both ends included.
Tensor wide_logits(const Shape& shape, uint64_t seed) {
  std::vector<double> values = uniform(shape, -30.0, 30.0, seed).to_vector<double>();
  values.front() = -30.0;
  values.back() = 30.0;
  return from_vector(values, shape);
}

Tensor leaf(const Tensor& x) {
  if (!x.defined()) {
    return x;
  }
  Tensor copy = x.detach();
  copy.set_requires_grad();
  return copy;
}

constexpr double kLowerBound = -5.0;

TEST_CASE("kda::gate_backward: equals the tape for both gates, parameters present or not, logits of +-30 included") {
  const Shape shape{2, 7, 3, 4};
  const Tensor g = wide_logits(shape, 71);
  const Tensor dy = uniform(shape, -1.0, 1.0, 72);
  for (const kda::Gate gate : {kda::Gate::standard, kda::Gate::lower_bound}) {
    for (const bool with_rate : {true, false}) {
      for (const bool with_bias : {true, false}) {
        if (gate == kda::Gate::standard && !with_rate) {
          continue;
        }
        CAPTURE(static_cast<int>(gate));
        CAPTURE(with_rate);
        CAPTURE(with_bias);
        const Tensor x = leaf(g);
        const Tensor A_log = with_rate ? leaf(uniform({3}, -1.0, 1.0, 73)) : Tensor();
        const Tensor dt_bias = with_bias ? leaf(uniform({12}, -1.0, 1.0, 74)) : Tensor();
        std::vector<Tensor> wanted{x};
        for (const Tensor& optional : {A_log, dt_bias}) {
          if (optional.defined()) {
            wanted.push_back(optional);
          }
        }
        const std::vector<Tensor> outputs{kda::apply_gate(gate, x, A_log, dt_bias, kLowerBound)};
        const std::vector<Tensor> upstream{dy};
        const std::vector<Tensor> expected = grad(outputs, wanted, upstream);
        const kda::GateGradients actual = kda::gate_backward(gate, dy, g, A_log, dt_bias, kLowerBound);
        CHECK(test::relative_error(actual.dg, expected[0]) <= 1e-13);
        CHECK(actual.dA_log.defined() == with_rate);
        CHECK(actual.ddt_bias.defined() == with_bias);
        if (with_rate) {
          CHECK(test::relative_error(actual.dA_log, expected[1]) <= 1e-12);
        }
        if (with_bias) {
          CHECK(test::relative_error(actual.ddt_bias, expected.back()) <= 1e-12);
        }
      }
    }
  }
}

TEST_CASE("kda::gate_backward: every single gradient keeps its digits where the sigmoid is nearly 0 or 1") {
  const Shape shape{1, 61, 1, 1};
  std::vector<double> logits;
  for (int i = -30; i <= 30; ++i) {
    logits.push_back(i);
  }
  const auto dg_of = [&](kda::Gate gate) {
    const Tensor A_log = gate == kda::Gate::standard ? zeros({1}, {DType::f64, Device::cpu()}) : Tensor();
    const Tensor dy = ones(shape, {DType::f64, Device::cpu()});
    return kda::gate_backward(gate, dy, from_vector(logits, shape), A_log, Tensor(), kLowerBound)
        .dg.to_vector<double>();
  };
  const auto standard = dg_of(kda::Gate::standard);
  const auto bounded = dg_of(kda::Gate::lower_bound);
  for (size_t i = 0; i < logits.size(); ++i) {
    CAPTURE(logits[i]);
    const double slope = -1.0 / (1.0 + std::exp(-logits[i]));
    CHECK(std::fabs(standard[i] - slope) <= 1e-14 * std::fabs(slope));
    const double product = kLowerBound / (2.0 + std::exp(logits[i]) + std::exp(-logits[i]));
    CHECK(std::fabs(bounded[i] - product) <= 1e-14 * std::fabs(product));
  }
}

TEST_CASE("kda::gate_backward: without a gate, and in 16 bits with sums in f32") {
  const Shape shape{1, 300, 2, 3};
  const Tensor g = to(uniform(shape, -2.0, 2.0, 75), DType::bf16);
  const Tensor dy = to(uniform(shape, 0.0, 1.0, 76), DType::bf16);
  const Tensor bias = to(uniform({6}, -1.0, 1.0, 77), DType::f32);
  const Tensor A_log = to(uniform({2}, -1.0, 1.0, 78), DType::f32);
  const kda::GateGradients none = kda::gate_backward(kda::Gate::none, dy, g, Tensor(), Tensor(), kLowerBound);
  CHECK(test::largest_difference(none.dg, dy) == 0.0);
  CHECK_FALSE(none.dA_log.defined());
  CHECK_FALSE(none.ddt_bias.defined());
  const auto wide = [](const Tensor& x) { return to(x, DType::f64); };
  for (const kda::Gate gate : {kda::Gate::standard, kda::Gate::lower_bound}) {
    const kda::GateGradients narrow = kda::gate_backward(gate, dy, g, A_log, bias, kLowerBound);
    const kda::GateGradients exact = kda::gate_backward(gate, wide(dy), wide(g), wide(A_log), wide(bias), kLowerBound);
    CHECK(narrow.dg.dtype() == DType::bf16);
    CHECK(narrow.ddt_bias.dtype() == DType::f32);
    CHECK(test::relative_error(narrow.dg, exact.dg) <= 4e-3);
    CHECK(test::relative_error(narrow.dA_log, exact.dA_log) <= 1e-6);
    CHECK(test::relative_error(narrow.ddt_bias, exact.ddt_bias) <= 1e-6);
  }
}

/// Sums of x [B,T,HV,K] inside the chunks of the sequences, by plain loops.
Tensor plain_sums(const Tensor& x, const std::vector<int64_t>& bounds, int64_t C, bool reverse) {
  const int64_t B = x.size(0);
  const int64_t T = x.size(1);
  const int64_t channels = x.size(2) * x.size(3);
  const auto values = x.to_vector<double>();
  std::vector<double> sums(values.size(), 0.0);
  for (size_t n = 0; n + 1 < bounds.size(); ++n) {
    for (int64_t t = bounds[n]; t < bounds[n + 1]; ++t) {
      const int64_t first = bounds[n] + (t - bounds[n]) / C * C;
      const int64_t last = std::min(first + C, bounds[n + 1]) - 1;
      for (int64_t r = reverse ? t : first; r <= (reverse ? last : t); ++r) {
        for (int64_t b = 0; b < B; ++b) {
          for (int64_t d = 0; d < channels; ++d) {
            sums[static_cast<size_t>((b * T + t) * channels + d)] +=
                values[static_cast<size_t>((b * T + r) * channels + d)];
          }
        }
      }
    }
  }
  return from_vector(sums, x.shape());
}

TEST_CASE("kda::chunk_cumsum and gate_cumsum: equal plain loops, forward and reverse, packed or not") {
  for (const int64_t C : {16, 32, 64}) {
    for (const bool reverse : {false, true}) {
      for (const int64_t T : {0, 1, 16, 67}) {
        CAPTURE(C);
        CAPTURE(reverse);
        CAPTURE(T);
        const Tensor x = uniform({2, T, 2, 3}, -1.0, 0.0, 81);
        CHECK(test::largest_difference(kda::chunk_cumsum(x, C, Tensor(), reverse), plain_sums(x, {0, T}, C, reverse)) <=
              1e-13);
      }
      const std::vector<int64_t> bounds{0, 0, 5, 38, 39, 39, 67};
      const Tensor x = uniform({1, 67, 2, 3}, -1.0, 0.0, 82);
      for (const DType dtype : {DType::i64, DType::i32}) {
        const Tensor cu_seqlens = to(from_vector(bounds), dtype);
        CHECK(test::largest_difference(kda::chunk_cumsum(x, C, cu_seqlens, reverse),
                                       plain_sums(x, bounds, C, reverse)) <= 1e-13);
        const Tensor A_log = uniform({2}, -1.0, 1.0, 83);
        const Tensor dt_bias = uniform({6}, -1.0, 1.0, 84);
        for (const kda::Gate gate : {kda::Gate::standard, kda::Gate::lower_bound}) {
          const Tensor g = kda::apply_gate(gate, x, A_log, dt_bias, kLowerBound);
          CHECK(test::largest_difference(kda::gate_cumsum(gate, x, A_log, dt_bias, kLowerBound, C, cu_seqlens, reverse),
                                         plain_sums(g, bounds, C, reverse)) <= 1e-12);
        }
      }
    }
  }
}

TEST_CASE("kda::gate_cumsum: its adjoint is gate_backward of the sums in the other direction") {
  const std::vector<int64_t> bounds{0, 20, 20, 57};
  const Tensor cu_seqlens = from_vector(bounds);
  const Tensor x = leaf(wide_logits({1, 57, 2, 3}, 85));
  const Tensor A_log = leaf(uniform({2}, -1.0, 1.0, 86));
  const Tensor dt_bias = leaf(uniform({6}, -1.0, 1.0, 87));
  const Tensor dG = uniform({1, 57, 2, 3}, -1.0, 1.0, 88);
  for (const bool reverse : {false, true}) {
    for (const kda::Gate gate : {kda::Gate::standard, kda::Gate::lower_bound}) {
      const std::vector<Tensor> outputs{
          kda::gate_cumsum(gate, x, A_log, dt_bias, kLowerBound, 16, cu_seqlens, reverse)};
      const std::vector<Tensor> wanted{x, A_log, dt_bias};
      const std::vector<Tensor> upstream{dG};
      const std::vector<Tensor> expected = grad(outputs, wanted, upstream);
      const kda::GateGradients actual = kda::gate_backward(gate, kda::chunk_cumsum(dG, 16, cu_seqlens, !reverse),
                                                           x.detach(), A_log.detach(), dt_bias.detach(), kLowerBound);
      CHECK(test::relative_error(actual.dg, expected[0]) <= 1e-13);
      CHECK(test::relative_error(actual.dA_log, expected[1]) <= 1e-12);
      CHECK(test::relative_error(actual.ddt_bias, expected[2]) <= 1e-12);
    }
  }
}

TEST_CASE("kda::gate_cumsum: 16-bit gates are summed in f32") {
  const Tensor g = to(full({1, 64, 1, 1}, -1.0 / 256.0, {DType::f64, Device::cpu()}), DType::bf16);
  const Tensor sums = kda::gate_cumsum(kda::Gate::none, g, Tensor(), Tensor(), kLowerBound, 64);
  CHECK(sums.dtype() == DType::f32);
  CHECK(sums.to_vector<double>().back() == -0.25);
}

TEST_CASE("kda: what the gate ops refuse") {
  const Tensor g = zeros({1, 4, 2, 3});
  const Tensor A_log = zeros({2});
  CHECK_ERROR(kda::gate_backward(kda::Gate::standard, g, g, Tensor(), Tensor(), -5.0),
              "kda::gate_backward: A_log is missing, expected a tensor [HV] for the standard gate");
  CHECK_ERROR(kda::gate_backward(kda::Gate::none, g, g, A_log, Tensor(), -5.0),
              "kda::gate_backward: A_log or dt_bias is given and the gate is none, expected neither");
  CHECK_ERROR(kda::gate_backward(kda::Gate::standard, zeros({1, 4, 2, 2}), g, A_log, Tensor(), -5.0),
              "kda::gate_backward: dy has shape [1, 4, 2, 2], expected [B, T, HV, K] = [1, 4, 2, 3]");
  CHECK_ERROR(kda::gate_backward(kda::Gate::standard, Tensor(), g, A_log, Tensor(), -5.0),
              "kda::gate_backward: dy is undefined, expected a tensor");
  CHECK_ERROR(kda::gate_backward(kda::Gate::lower_bound, g, g, zeros({3}), Tensor(), -5.0),
              "kda::gate_backward: A_log has shape [3], expected [HV] = [2]");
  CHECK_ERROR(kda::gate_backward(kda::Gate::lower_bound, g, g, A_log, zeros({5}), -5.0),
              "kda::gate_backward: dt_bias has shape [5], expected [HV*K] = [6]");
  const TensorOptions integers{DType::i64, Device::cpu()};
  CHECK_ERROR(kda::gate_backward(kda::Gate::standard, g, g, zeros({2}, integers), Tensor(), -5.0),
              "kda::gate_backward: A_log has dtype i64, expected a floating-point dtype");
  CHECK_ERROR(kda::apply_gate(kda::Gate::standard, g, A_log, zeros({6}, integers), -5.0),
              "kda::apply_gate: dt_bias has dtype i64, expected a floating-point dtype");
  CHECK_ERROR(kda::gate_cumsum(kda::Gate::none, zeros({1, 4, 2, 3}, integers), Tensor(), Tensor(), -5.0, 16),
              "kda::gate_cumsum: g has dtype i64, expected a floating-point dtype");
  CHECK_ERROR(kda::gate_backward(kda::Gate::lower_bound, g, g, A_log, Tensor(), 0.0),
              "kda::gate_backward: lower_bound is 0, expected a finite number below 0");
  CHECK_ERROR(kda::gate_backward(static_cast<kda::Gate>(9), g, g, A_log, Tensor(), -5.0),
              "kda::gate_backward: gate is 9, expected none, standard or lower_bound");
  CHECK_ERROR(kda::gate_cumsum(kda::Gate::standard, zeros({4, 2, 3}), A_log, Tensor(), -5.0, 16),
              "kda::gate_cumsum: g has shape [4, 2, 3], expected 4 dimensions [B, T, HV, K]");
  CHECK_ERROR(kda::gate_cumsum(kda::Gate::standard, g, A_log, Tensor(), -5.0, 24),
              "kda::gate_cumsum: chunk_size is 24, expected 16, 32 or 64");
  CHECK_ERROR(
      kda::gate_cumsum(kda::Gate::none, g, Tensor(), Tensor(), -5.0, 16, from_vector(std::vector<int64_t>{0, 3})),
      "kda::gate_cumsum: cu_seqlens ends with 3, expected T = 4");
  CHECK_ERROR(kda::chunk_cumsum(Tensor(), 16), "kda::chunk_cumsum: x is undefined, expected a tensor");
  CHECK_ERROR(kda::chunk_cumsum(zeros({4, 2}), 16),
              "kda::chunk_cumsum: x has shape [4, 2], expected rank 4, [B, T, HV, K]");
  CHECK_ERROR(kda::chunk_cumsum(g, 128), "kda::chunk_cumsum: chunk_size is 128, expected 16, 32 or 64");
  CHECK_ERROR(kda::chunk_cumsum(zeros({2, 4, 2, 3}), 16, from_vector(std::vector<int64_t>{0, 4})),
              "kda::chunk_cumsum: the batch size is 2, expected B = 1 with cu_seqlens");
  CHECK_ERROR(kda::chunk_cumsum(zeros({1, 4, 2, 3}, integers), 16),
              "kda::chunk_cumsum: x has dtype i64, expected a floating-point dtype");
}

}  // namespace
}  // namespace deltatape
