#include "ops/convolution.h"

#include <doctest/doctest.h>

#include "autograd/backward.h"
#include "autograd/gradcheck.h"
#include "ops/ops.h"
#include "tests/support/compare.h"
#include "tests/support/errors.h"
#include "tests/support/random_tensors.h"

using namespace deltatape;
using namespace deltatape::test;

namespace {

void check_gradients(const TensorFunction& f, const std::vector<Tensor>& inputs) {
  const GradcheckReport first = gradcheck(f, inputs);
  CHECK_MESSAGE(first.ok, first.text());
  const GradcheckReport second = gradgradcheck(f, inputs);
  CHECK_MESSAGE(second.ok, second.text());
}

}  // namespace

TEST_CASE("causal_conv1d: the last tap is the current step, and the past before the start is nothing") {
  const Tensor x = from_vector<double>({1, 10, 2, 20, 3, 30}, {1, 3, 2});
  const Tensor weight = from_vector<double>({0.5, 1, 0, 1}, {2, 2});
  const Tensor bias = from_vector<double>({0, 100});
  CHECK(causal_conv1d(x, weight).to_vector<double>() == std::vector<double>{1, 10, 2.5, 20, 4, 30});
  CHECK(causal_conv1d(x, weight, bias).to_vector<double>() == std::vector<double>{1, 110, 2.5, 120, 4, 130});
  // More taps than steps.
  CHECK(causal_conv1d(x, ones({2, 5}, {DType::f64, Device::cpu()})).to_vector<double>() ==
        std::vector<double>{1, 10, 3, 30, 6, 60});
}

TEST_CASE("causal_conv1d: packed sequences give what each one gives alone, and so do their gradients") {
  const std::vector<int64_t> bounds = {0, 1, 1, 6, 8, 15};  // shorter than the kernel, empty, longer
  Tensor x = random_tensor({1, 15, 3}, 1);
  Tensor weight = random_tensor({3, 4}, 2);
  Tensor bias = random_tensor({3}, 3);
  for (Tensor* input : {&x, &weight, &bias}) {
    input->set_requires_grad();
  }
  std::vector<Tensor> parts;
  for (size_t n = 0; n + 1 < bounds.size(); ++n) {
    parts.push_back(causal_conv1d(slice(x, 1, {bounds[n], bounds[n + 1]}), weight, bias));
  }
  const std::vector<Tensor> apart{cat(parts, 1)};
  const std::vector<Tensor> packed{causal_conv1d(x, weight, bias, from_vector(bounds))};
  const Tolerance tolerance = rounding(DType::f64, 16);
  check_close("y", packed[0], apart[0], tolerance);
  const std::vector<Tensor> inputs{x, weight, bias};
  const std::vector<Tensor> upstream{random_tensor({1, 15, 3}, 4)};
  const std::vector<Tensor> actual = grad(packed, inputs, upstream);
  const std::vector<Tensor> expected = grad(apart, inputs, upstream);
  check_close("dx", actual[0], expected[0], tolerance);
  check_close("dweight", actual[1], expected[1], tolerance);
  check_close("dbias", actual[2], expected[2], tolerance);
}

TEST_CASE("causal_conv1d: first and second derivatives") {
  const Tensor x = random_tensor({2, 5, 2}, 1);
  const Tensor weight = random_tensor({2, 3}, 2);
  const Tensor bias = random_tensor({2}, 3);
  check_gradients([](const std::vector<Tensor>& t) { return std::vector<Tensor>{causal_conv1d(t[0], t[1], t[2])}; },
                  {x, weight, bias});
  check_gradients([&](const std::vector<Tensor>& t) { return std::vector<Tensor>{causal_conv1d(t[0], weight)}; }, {x});
  check_gradients([&](const std::vector<Tensor>& t) { return std::vector<Tensor>{causal_conv1d(x, t[0])}; }, {weight});
  const Tensor cu_seqlens = from_vector<int64_t>({0, 2, 2, 6});
  check_gradients(
      [&](const std::vector<Tensor>& t) {
        return std::vector<Tensor>{causal_conv1d(t[0], t[1], Tensor(), cu_seqlens)};
      },
      {random_tensor({1, 6, 2}, 4), weight});
}

TEST_CASE("causal_conv1d: nothing to convolve") {
  CHECK(causal_conv1d(zeros({2, 0, 3}), zeros({3, 4})).shape() == Shape{2, 0, 3});
  CHECK(causal_conv1d(zeros({1, 0, 3}), zeros({3, 4}), Tensor(), from_vector<int64_t>({0, 0})).numel() == 0);
}

TEST_CASE("causal_conv1d: errors name the function, the argument and what came") {
  const Tensor x = zeros({2, 5, 3});
  CHECK_ERROR(causal_conv1d(zeros({5, 3}), zeros({3, 4})),
              "causal_conv1d: x has shape [5, 3], expected rank 3, [B, T, D]");
  CHECK_ERROR(causal_conv1d(x, zeros({2, 4})),
              "causal_conv1d: weight has shape [2, 4], expected [D, W] = [3, 1 or more]");
  CHECK_ERROR(causal_conv1d(x, zeros({3, 0})),
              "causal_conv1d: weight has shape [3, 0], expected [D, W] = [3, 1 or more]");
  CHECK_ERROR(causal_conv1d(x, zeros({3, 4}), zeros({4})), "causal_conv1d: bias has shape [4], expected [D] = [3]");
  CHECK_ERROR(causal_conv1d(x, zeros({3, 4}), Tensor(), from_vector<int64_t>({0, 5})),
              "causal_conv1d: the batch size is 2, expected B = 1 with cu_seqlens");
}
