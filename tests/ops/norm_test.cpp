#include "ops/norm.h"

#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <string>

#include "autograd/backward.h"
#include "autograd/gradcheck.h"
#include "ops/ops.h"
#include "tests/support/compare.h"
#include "tests/support/errors.h"
#include "tests/support/random_tensors.h"

using namespace deltatape;
using namespace deltatape::test;

namespace {

void check_gradients(const std::function<Tensor(const std::vector<Tensor>&)>& f, const std::vector<Tensor>& inputs) {
  const TensorFunction call = [&](const std::vector<Tensor>& x) { return std::vector<Tensor>{f(x)}; };
  const GradcheckReport first = gradcheck(call, inputs);
  CHECK_MESSAGE(first.ok, first.text());
  const GradcheckReport second = gradgradcheck(call, inputs);
  CHECK_MESSAGE(second.ok, second.text());
}

}  // namespace

TEST_CASE("rms_norm: the gradient of a large tensor is that of its rows by themselves") {
  const auto gradient = [](const Tensor& x, const Tensor& dy) {
    Tensor leaf = x.detach();
    leaf.set_requires_grad();
    return grad(rms_norm(leaf, Tensor()), leaf, dy);
  };
  for (const int64_t width : {1024, 1030}) {  // rows of whole cache lines, and not
    CAPTURE(width);
    const Tensor x = to(random_tensor({4099, width}, 4), DType::f32);
    const Tensor dy = square(x);
    const Tensor dx = gradient(x, dy);
    for (const int64_t first : {0, 2040, 4079}) {
      CHECK(contiguous(slice(dx, 0, {first, first + 20})).to_vector<float>() ==
            gradient(contiguous(slice(x, 0, {first, first + 20})), contiguous(slice(dy, 0, {first, first + 20})))
                .to_vector<float>());
    }
  }
}

TEST_CASE("rms_norm, l2_normalize, layer_norm: as their formulas") {
  const Tensor x = random_tensor({2, 3, 5}, 1);
  const Tensor w = random_tensor({5}, 2);
  const Tensor b = random_tensor({5}, 3);
  const Tolerance tolerance = rounding(DType::f64, 16);
  check_close("rms_norm", rms_norm(x, w, 1e-3), x * rsqrt(mean(square(x), {-1}, true) + 1e-3) * w, tolerance);
  check_close("rms_norm, no weight", rms_norm(x, Tensor()), x * rsqrt(mean(square(x), {-1}, true) + 1e-6), tolerance);
  check_close("l2_normalize", l2_normalize(x, 1e-2), x * rsqrt(sum(square(x), {-1}, true) + 1e-2), tolerance);
  const Tensor centred = x - mean(x, {-1}, true);
  check_close("layer_norm", layer_norm(x, w, b), centred * rsqrt(var(x, {-1}, 0, true) + 1e-5) * w + b, tolerance);
}

TEST_CASE("norms: first and second derivatives, with and without parameters") {
  const Tensor x = random_tensor({2, 2, 4}, 1);
  const Tensor w = random_tensor({4}, 2);
  const Tensor b = random_tensor({4}, 3);
  check_gradients([](const std::vector<Tensor>& t) { return rms_norm(t[0], t[1], 1e-2); }, {x, w});
  check_gradients([](const std::vector<Tensor>& t) { return rms_norm(t[0], Tensor(), 1e-2); }, {x});
  check_gradients([](const std::vector<Tensor>& t) { return l2_normalize(t[0], 1e-2); }, {x});
  check_gradients([](const std::vector<Tensor>& t) { return layer_norm(t[0], t[1], t[2], 1e-2); }, {x, w, b});
}

TEST_CASE("norms: the gradient is the same whether or not it is recorded") {
  Tensor x = random_tensor({3, 8}, 1, DType::f32);
  Tensor w = random_tensor({8}, 2, DType::f32);
  x.set_requires_grad();
  w.set_requires_grad();
  BackwardOptions recorded;
  recorded.create_graph = true;
  const Tensor y = sum(square(rms_norm(x, w)));
  const std::vector<Tensor> outputs{y};
  const std::vector<Tensor> inputs{x, w};
  const std::vector<Tensor> a = grad(outputs, inputs, {}, recorded);
  const std::vector<Tensor> b = grad(outputs, inputs);
  check_close("dx", a[0], b[0], rounding(DType::f32, 16));
  check_close("dw", a[1], b[1], rounding(DType::f32, 16));
}

TEST_CASE("norms: rows of zeros stay finite") {
  Tensor x = zeros({2, 4});
  x.set_requires_grad();
  for (const Tensor& y : {rms_norm(x, Tensor()), l2_normalize(x), layer_norm(x, Tensor(), Tensor())}) {
    CHECK(y.to_vector<double>() == std::vector<double>(8, 0.0));
    CHECK(all(isfinite(grad(sum(y), x))));
  }
}

TEST_CASE("norms: 16-bit gradients are computed in f32 and rounded once") {
  Tensor x = random_tensor({16, 64}, 1, DType::bf16);
  Tensor w = random_tensor({64}, 2, DType::bf16);
  const Tensor u = random_tensor({16, 64}, 3, DType::bf16);
  std::vector<Tensor> narrow{x, w};
  std::vector<Tensor> wide{to(x, DType::f64), to(w, DType::f64)};
  for (auto* inputs : {&narrow, &wide}) {
    for (Tensor& input : *inputs) {
      input.set_requires_grad();
    }
  }
  const std::vector<Tensor> y{rms_norm(narrow[0], narrow[1])};
  const std::vector<Tensor> y_wide{rms_norm(wide[0], wide[1])};
  const std::vector<Tensor> gradients = grad(y, narrow, std::vector<Tensor>{u});
  const std::vector<Tensor> expected = grad(y_wide, wide, std::vector<Tensor>{to(u, DType::f64)});
  check_close("dx", to(gradients[0], DType::f64), expected[0], rounding(DType::bf16, 1.1));
  check_close("dw", to(gradients[1], DType::f64), expected[1], rounding(DType::bf16, 1.1));
}

TEST_CASE("norms: gradients over many rows are those of their formulas in f64, in every dtype") {
  constexpr double kEps = 1e-3;
  const Shape shape{130, 70};  // more than two pieces of rows; whole registers and a rest
  using Function = std::function<Tensor(const std::vector<Tensor>&)>;
  const Function normed = [](const std::vector<Tensor>& t) {
    return t[0] * rsqrt(mean(square(t[0]), {-1}, true) + kEps) * t[1];
  };
  struct Case {
    std::string name;
    Function fused;
    Function composed;
    size_t inputs;
  };
  const std::vector<Case> cases{
      {"rms_norm", [](const std::vector<Tensor>& t) { return rms_norm(t[0], t[1], kEps); }, normed, 2},
      {"l2_normalize", [](const std::vector<Tensor>& t) { return l2_normalize(t[0], kEps); },
       [](const std::vector<Tensor>& t) { return t[0] * rsqrt(sum(square(t[0]), {-1}, true) + kEps); }, 1},
      {"gated_rms_norm, sigmoid",
       [](const std::vector<Tensor>& t) { return gated_rms_norm(t[0], t[1], t[2], GateActivation::sigmoid, kEps); },
       [&](const std::vector<Tensor>& t) { return normed(t) * sigmoid(t[2]); }, 3},
      {"gated_rms_norm, swish",
       [](const std::vector<Tensor>& t) { return gated_rms_norm(t[0], t[1], t[2], GateActivation::swish, kEps); },
       [&](const std::vector<Tensor>& t) { return normed(t) * silu(t[2]); }, 3},
  };
  const std::vector<Tensor> values{random_tensor(shape, 1), random_tensor({70}, 2), random_tensor(shape, 3)};
  for (const DType dtype : {DType::f64, DType::f32, DType::bf16}) {
    const Tensor dy = random_tensor(shape, 4, dtype);
    for (const Case& c : cases) {
      CAPTURE(to_string(dtype));
      CAPTURE(c.name);
      std::vector<Tensor> leaves;
      std::vector<Tensor> wide;
      for (size_t i = 0; i < c.inputs; ++i) {
        leaves.push_back(to(values[i], dtype).detach());
        wide.push_back(to(leaves.back(), DType::f64).detach());
        leaves.back().set_requires_grad();
        wide.back().set_requires_grad();
      }
      const std::vector<Tensor> actual = grad(std::vector<Tensor>{c.fused(leaves)}, leaves, std::vector<Tensor>{dy});
      const std::vector<Tensor> expected =
          grad(std::vector<Tensor>{c.composed(wide)}, wide, std::vector<Tensor>{to(dy, DType::f64)});
      for (size_t i = 0; i < c.inputs; ++i) {
        CAPTURE(i);
        CHECK(actual[i].dtype() == dtype);
        check_close("gradient", to(actual[i], DType::f64), expected[i],
                    rounding(dtype, dtype == DType::bf16 ? 1.1 : 16));
      }
    }
  }
}

TEST_CASE("norms: errors name the function, the argument and what came") {
  const Tensor x = zeros({2, 3});
  CHECK_ERROR(rms_norm(x, zeros({2})), "rms_norm: weight has shape [2], expected [D] = [3]");
  CHECK_ERROR(rms_norm(x, Tensor(), 0.0), "rms_norm: eps is 0, expected a number above 0");
  CHECK_ERROR(l2_normalize(zeros({})), "l2_normalize: x has shape [], expected rank 1 or more, [.., D]");
  CHECK_ERROR(layer_norm(x, Tensor(), zeros({3}, {DType::f64, Device::cpu()})),
              "layer_norm: bias has dtype f64, expected f32");
}
