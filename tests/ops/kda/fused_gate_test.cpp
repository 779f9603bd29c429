// The gate as one kernel, held against the composed gate and finite differences; the adjoint of chunk_cumsum.
#include "ops/kda/fused_gate.h"

#include <doctest/doctest.h>

#include "autograd/backward.h"
#include "autograd/grad_mode.h"
#include "autograd/gradcheck.h"
#include "ops/convert.h"
#include "ops/creation.h"
#include "ops/kda/gate.h"
#include "ops/views.h"
#include "tests/ops/kda/kda_cases.h"
#include "tests/support/errors.h"
#include "tests/support/random_tensors.h"

namespace deltatape {
namespace {

constexpr double kLowerBound = -5.0;

struct GateInputs {
  Tensor g = test::random_tensor({2, 67, 3, 21}, 1);  // more than a piece of tokens, channels with a rest
  Tensor A_log = test::random_tensor({3}, 2);
  Tensor dt_bias = test::random_tensor({63}, 3);
  Tensor dy = test::random_tensor({2, 67, 3, 21}, 4);
};

TEST_CASE("kda::fused_gate: values and gradients are those of apply_gate, in every dtype") {
  const GateInputs in;
  for (const DType dtype : {DType::f64, DType::f32, DType::bf16}) {
    for (const kda::Gate gate : {kda::Gate::standard, kda::Gate::lower_bound}) {
      CAPTURE(to_string(dtype));
      CAPTURE(static_cast<int>(gate));
      const auto run = [&](Tensor (*f)(kda::Gate, const Tensor&, const Tensor&, const Tensor&, double)) {
        std::vector<Tensor> leaves;
        for (const Tensor& x : {in.g, in.A_log, in.dt_bias}) {
          leaves.push_back(to(x, dtype).detach());
          leaves.back().set_requires_grad();
        }
        const Tensor y = f(gate, leaves[0], leaves[1], leaves[2], kLowerBound);
        const Tensor dy = to(in.dy, dtype);
        std::vector<Tensor> results = grad(std::span(&y, 1), leaves, std::span(&dy, 1));
        results.push_back(y.detach());
        return results;
      };
      const std::vector<Tensor> actual = run(kda::fused_gate);
      const std::vector<Tensor> expected = run(kda::apply_gate);
      const double limit = dtype == DType::f64 ? 1e-14 : dtype == DType::f32 ? 3e-6 : 1e-2;
      for (size_t i = 0; i < actual.size(); ++i) {
        CAPTURE(i);
        CHECK(actual[i].dtype() == dtype);
        CHECK(test::relative_error(actual[i], expected[i]) <= limit);
      }
    }
  }
}

TEST_CASE("kda::fused_gate: a gradient is the same whether or not the others are wanted") {
  const GateInputs in;
  for (const kda::Gate gate : {kda::Gate::standard, kda::Gate::lower_bound}) {
    for (const bool recorded : {false, true}) {
      std::vector<Tensor> leaves{in.g.detach(), in.A_log.detach(), in.dt_bias.detach()};
      const auto run = [&] {
        const Tensor y = kda::fused_gate(gate, leaves[0], leaves[1], leaves[2], kLowerBound);
        std::vector<Tensor> wanted;
        for (const Tensor& x : leaves) {
          if (x.requires_grad()) {
            wanted.push_back(x);
          }
        }
        BackwardOptions options;
        options.create_graph = recorded;
        return grad(std::span(&y, 1), wanted, std::span(&in.dy, 1), options);
      };
      for (Tensor& x : leaves) {
        x.set_requires_grad();
      }
      const std::vector<Tensor> all = run();
      for (size_t i = 0; i < leaves.size(); ++i) {
        CAPTURE(i);
        for (size_t j = 0; j < leaves.size(); ++j) {
          leaves[j].set_requires_grad(i == j);
        }
        CHECK(run()[0].to_vector<double>() == all[i].to_vector<double>());
      }
    }
  }
}

TEST_CASE("kda::gate_backward: an upstream gradient of another dtype than the logits") {
  const NoGradGuard guard;  // the kernel, not the composed form
  const GateInputs in;
  for (const DType dtype : {DType::f32, DType::bf16}) {
    CAPTURE(to_string(dtype));
    const Tensor g = to(in.g, dtype);
    const auto run = [&](const Tensor& dy) {
      return kda::gate_backward(kda::Gate::standard, dy, g, to(in.A_log, dtype), Tensor(), kLowerBound);
    };
    for (const DType upstream : {DType::f64, DType::f16}) {
      CAPTURE(to_string(upstream));
      const Tensor dy = to(in.dy, upstream);
      const kda::GateGradients actual = run(dy);
      const kda::GateGradients expected = run(to(dy, DType::f32));
      CHECK(actual.dg.to_vector<double>() == expected.dg.to_vector<double>());
      CHECK(actual.dA_log.to_vector<double>() == expected.dA_log.to_vector<double>());
    }
  }
}

TEST_CASE("kda::fused_gate: first and second derivatives, with and without parameters, strided logits") {
  const Tensor g = test::random_tensor({2, 3, 2, 5}, 5);
  const Tensor A_log = test::random_tensor({2}, 6);
  const Tensor dt_bias = test::random_tensor({10}, 7);
  const auto check_all = [](const TensorFunction& f, const std::vector<Tensor>& inputs) {
    const GradcheckReport first = gradcheck(f, inputs);
    CHECK_MESSAGE(first.ok, first.text());
    const GradcheckReport second = gradgradcheck(f, inputs);
    CHECK_MESSAGE(second.ok, second.text());
  };
  for (const kda::Gate gate : {kda::Gate::standard, kda::Gate::lower_bound}) {
    check_all(
        [gate](const std::vector<Tensor>& x) {
          return std::vector<Tensor>{kda::fused_gate(gate, transpose(x[0], 0, 1), x[1], x[2], kLowerBound)};
        },
        {g, A_log, dt_bias});
  }
  check_all(
      [](const std::vector<Tensor>& x) {
        return std::vector<Tensor>{kda::fused_gate(kda::Gate::lower_bound, x[0], Tensor(), Tensor(), kLowerBound)};
      },
      {g});
}

TEST_CASE("kda::fused_gate: no gate, no tokens, mixed dtypes, wrong arguments") {
  const GateInputs in;
  CHECK(kda::fused_gate(kda::Gate::none, in.g, Tensor(), Tensor(), kLowerBound).is_same(in.g));
  CHECK(kda::fused_gate(kda::Gate::standard, zeros({1, 0, 3, 2}), zeros({3}), Tensor(), kLowerBound).numel() == 0);
  const Tensor mixed = kda::fused_gate(kda::Gate::standard, to(in.g, DType::f32), in.A_log, in.dt_bias, kLowerBound);
  CHECK(mixed.dtype() == DType::f32);
  CHECK(test::relative_error(mixed, kda::apply_gate(kda::Gate::standard, in.g, in.A_log, in.dt_bias, kLowerBound)) <=
        1e-6);
  CHECK_ERROR(kda::fused_gate(kda::Gate::standard, in.g, Tensor(), Tensor(), kLowerBound),
              "kda::fused_gate: A_log is missing, expected a tensor [HV] for the standard gate");
  CHECK_ERROR(kda::fused_gate(kda::Gate::lower_bound, in.g, in.A_log, Tensor(), 0.5),
              "kda::fused_gate: lower_bound is 0.5, expected a finite number below 0");
}

TEST_CASE("kda::chunk_cumsum: first and second derivatives") {
  const Tensor cu_seqlens = from_vector(std::vector<int64_t>{0, 3, 3, 20});
  for (const bool reverse : {false, true}) {
    const TensorFunction f = [&](const std::vector<Tensor>& x) {
      return std::vector<Tensor>{kda::chunk_cumsum(x[0], 16, cu_seqlens, reverse)};
    };
    const GradcheckReport first = gradcheck(f, {test::random_tensor({1, 20, 2, 3}, 8)});
    CHECK_MESSAGE(first.ok, first.text());
    const GradcheckReport second = gradgradcheck(f, {test::random_tensor({1, 20, 2, 3}, 9)});
    CHECK_MESSAGE(second.ok, second.text());
  }
}

}  // namespace
}  // namespace deltatape
