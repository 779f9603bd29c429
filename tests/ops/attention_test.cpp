#include "ops/attention.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "autograd/backward.h"
#include "autograd/gradcheck.h"
#include "ops/ops.h"
#include "tests/support/compare.h"
#include "tests/support/errors.h"
#include "tests/support/random_tensors.h"

using namespace deltatape;
using namespace deltatape::test;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Inputs {
  Tensor q = random_tensor({2, 3, 4}, 1);
  Tensor k = random_tensor({2, 5, 4}, 2);
  Tensor v = random_tensor({2, 5, 2}, 3);
};

}  // namespace

TEST_CASE("scaled_dot_product_attention: default scale, and a scale of one's own") {
  const Inputs in;
  const Tensor scores = matmul(in.q, transpose(in.k, 1, 2));
  const Tolerance tolerance = rounding(DType::f64, 16);
  check_close("o", scaled_dot_product_attention(in.q, in.k, in.v), matmul(softmax(scores * 0.5, -1), in.v), tolerance);
  AttentionOptions options;
  options.scale = 2.0;
  check_close("o", scaled_dot_product_attention(in.q, in.k, in.v, Tensor(), options),
              matmul(softmax(scores * 2.0, -1), in.v), tolerance);
}

TEST_CASE("scaled_dot_product_attention: what is hidden has no influence and no gradient") {
  Inputs in;
  in.v.set_requires_grad();
  in.k.set_requires_grad();
  AttentionOptions causal;
  causal.causal = true;
  const Tensor o = scaled_dot_product_attention(in.q, in.k, in.v, Tensor(), causal);
  check_close("first step", select(o, 1, 0), select(in.v, 1, 0), rounding(DType::f64, 4));
  const std::vector<Tensor> outputs{sum(square(o))};
  const std::vector<Tensor> inputs{in.k, in.v};
  for (const Tensor& gradient : grad(outputs, inputs)) {
    CHECK(norm(slice(gradient, 1, {3})).item() == 0.0);
    CHECK(norm(slice(gradient, 1, {0, 3})).item() > 0.0);
  }
  // The same mask as bool and as numbers to add, both broadcast over the batch.
  const Tensor visible = gt(tril(ones({3, 5})), 0.5);
  const Tensor added = masked_fill(zeros({3, 5}, {DType::f64, Device::cpu()}), logical_not(visible), -kInfinity);
  check_close("bool mask", scaled_dot_product_attention(in.q, in.k, in.v, visible), o, exactly());
  check_close("added mask", scaled_dot_product_attention(in.q, in.k, in.v, added), o, exactly());
  check_close("both", scaled_dot_product_attention(in.q, in.k, in.v, gt(ones({5}), 0.5), causal), o, exactly());
}

TEST_CASE("scaled_dot_product_attention: first and second derivatives") {
  const Inputs in;
  const TensorFunction f = [](const std::vector<Tensor>& t) {
    AttentionOptions options;
    options.causal = true;
    return std::vector<Tensor>{scaled_dot_product_attention(t[0], t[1], t[2], Tensor(), options)};
  };
  const GradcheckReport first = gradcheck(f, {in.q, in.k, in.v});
  CHECK_MESSAGE(first.ok, first.text());
  const GradcheckReport second = gradgradcheck(f, {in.q, in.k, in.v});
  CHECK_MESSAGE(second.ok, second.text());
}

TEST_CASE("scaled_dot_product_attention: without any key the result is 0") {
  const Tensor o = scaled_dot_product_attention(ones({2, 4}), zeros({0, 4}), zeros({0, 3}));
  CHECK(o.to_vector<float>() == std::vector<float>(6, 0.0F));
}

TEST_CASE("scaled_dot_product_attention: errors name the argument and what came") {
  const Inputs in;
  CHECK_ERROR(scaled_dot_product_attention(in.q, in.v, in.v),
              "scaled_dot_product_attention: k has shape [2, 5, 2], expected [.., S, D] with D = 4");
  CHECK_ERROR(scaled_dot_product_attention(in.q, in.k, in.q),
              "scaled_dot_product_attention: v has shape [2, 3, 4], expected [.., S, E] with S = 5");
  CHECK_ERROR(scaled_dot_product_attention(in.q, in.k, in.v, gt(zeros({4, 5}), 0.5)),
              "scaled_dot_product_attention: mask has shape [4, 5], expected one that broadcasts to [.., T, S] = "
              "[2, 3, 5]");
  CHECK_ERROR(scaled_dot_product_attention(in.q, in.k, in.v, zeros({3, 5}, {DType::i64, Device::cpu()})),
              "scaled_dot_product_attention: mask has dtype i64, expected bool or a floating-point dtype");
  AttentionOptions options;
  options.scale = std::numeric_limits<double>::quiet_NaN();
  CHECK_ERROR(scaled_dot_product_attention(in.q, in.k, in.v, Tensor(), options),
              "scaled_dot_product_attention: scale is nan, expected a finite number");
}
