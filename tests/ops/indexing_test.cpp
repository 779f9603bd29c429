#include "ops/indexing.h"

#include <doctest/doctest.h>

#include "autograd/backward.h"
#include "autograd/gradcheck.h"
#include "ops/ops.h"
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

TEST_CASE("gather, scatter_add: along any dimension, with i32 and i64 indices") {
  const Tensor x = from_vector<double>({1, 2, 3, 4, 5, 6}, {2, 3});
  const Tensor along0 = from_vector<int64_t>({1, 0, 1}, {1, 3});
  const Tensor along1 = from_vector<int32_t>({2, 2, 0, 1}, {2, 2});
  CHECK(gather(x, 0, along0).to_vector<double>() == std::vector<double>{4, 2, 6});
  CHECK(gather(x, -1, along1).to_vector<double>() == std::vector<double>{3, 3, 4, 5});
  const Tensor src = from_vector<double>({10, 20, 30, 40}, {2, 2});
  CHECK(scatter_add(x, 1, along1, src).to_vector<double>() == std::vector<double>{1, 2, 33, 34, 45, 6});
  CHECK(x.to_vector<double>() == std::vector<double>{1, 2, 3, 4, 5, 6});
}

TEST_CASE("indexing: equal indices add up in the gradient, twice differentiable") {
  const Tensor index = from_vector<int64_t>({2, 2, 0, 1}, {2, 2});
  const Tensor rows = from_vector<int64_t>({1, 1, 0});
  const Tensor x = random_tensor({2, 3}, 1);
  check_gradients([&](const std::vector<Tensor>& t) { return std::vector<Tensor>{square(gather(t[0], 1, index))}; },
                  {x});
  check_gradients(
      [&](const std::vector<Tensor>& t) { return std::vector<Tensor>{square(scatter_add(t[0], 1, index, t[1]))}; },
      {x, random_tensor({2, 2}, 2)});
  check_gradients(
      [&](const std::vector<Tensor>& t) { return std::vector<Tensor>{square(index_select(t[0], 0, rows))}; }, {x});
  check_gradients(
      [&](const std::vector<Tensor>& t) { return std::vector<Tensor>{square(index_add(t[0], 0, rows, t[1]))}; },
      {x, random_tensor({3, 3}, 2)});
  check_gradients([&](const std::vector<Tensor>& t) { return std::vector<Tensor>{square(topk(t[0], 2).values)}; }, {x});
}

TEST_CASE("indexing: a saved index notices that it was overwritten") {
  Tensor index = from_vector<int64_t>({0, 1});
  Tensor x = random_tensor({3}, 1);
  x.set_requires_grad();
  const Tensor y = sum(gather(x, 0, index));
  fill_(index, 2.0);
  CHECK_THROWS_AS(grad(y, x), Error);
}

TEST_CASE("embedding: rows for an index of any shape, and the gradient sums over repetitions") {
  Tensor weight = from_vector<double>({1, 2, 3, 4, 5, 6}, {3, 2});
  weight.set_requires_grad();
  const Tensor y = embedding(weight, from_vector<int64_t>({2, 0, 2, 2}, {2, 2}));
  CHECK(y.shape() == Shape{2, 2, 2});
  CHECK(y.to_vector<double>() == std::vector<double>{5, 6, 1, 2, 5, 6, 5, 6});
  CHECK(grad(sum(y), weight).to_vector<double>() == std::vector<double>{1, 1, 0, 0, 3, 3});
  CHECK(embedding(weight, zeros({0, 4}, {DType::i64, Device::cpu()})).shape() == Shape{0, 4, 2});
}

TEST_CASE("one_hot: any dtype") {
  const Tensor index = from_vector<int64_t>({1, 0}, {2, 1});
  for (const DType dtype : {DType::f32, DType::bf16, DType::i64, DType::boolean}) {
    const Tensor x = one_hot(index, 3, dtype);
    CHECK(x.dtype() == dtype);
    CHECK(x.shape() == Shape{2, 1, 3});
    CHECK(x.to_vector<double>() == std::vector<double>{0, 1, 0, 1, 0, 0});
  }
}

TEST_CASE("topk: largest first, ties by index") {
  const Tensor x = from_vector<float>({1, 7, 7, 3, 9, 9, 9, -1}, {2, 4});
  const TopK top = topk(x, 3);
  CHECK(top.values.to_vector<double>() == std::vector<double>{7, 7, 3, 9, 9, 9});
  CHECK(top.indices.to_vector<int64_t>() == std::vector<int64_t>{1, 2, 3, 0, 1, 2});
  CHECK(topk(x, 0).values.shape() == Shape{2, 0});
}

TEST_CASE("indexing: errors name the function, the argument and what came") {
  const Tensor x = zeros({2, 3});
  const Tensor index = from_vector<int64_t>({0, 1});
  CHECK_ERROR(gather(x, 1, index), "gather: index has shape [2], expected that of x, [2, 3], but along dimension 1");
  CHECK_ERROR(gather(x, 2, index), "gather: dim is 2, expected -2 to 1 for a tensor of rank 2");
  CHECK_ERROR(index_select(x, 0, zeros({2})), "index_select: index has dtype f32, expected i64 or i32");
  CHECK_ERROR(index_add(x, 0, index, zeros({3, 3})),
              "index_add: src has shape [3, 3], expected x's shape with index's length along dim = [2, 3]");
  CHECK_ERROR(scatter_add(x, 0, from_vector<int64_t>({0, 1, 0}, {1, 3}), zeros({1, 3}, {DType::f64, Device::cpu()})),
              "scatter_add: src has dtype f64, expected f32");
  CHECK_ERROR(embedding(x, from_vector<int64_t>({0, 1, 1, 2}, {2, 2})),
              "embedding: index is 2 at [1, 1], expected 0 <= index < 2");
  CHECK_ERROR(one_hot(from_vector<int64_t>({-1}), 3), "one_hot: index is -1 at [0], expected 0 <= index < 3");
  CHECK_ERROR(topk(x, 4), "topk: k is 4, expected 0 to 3 for x of shape [2, 3]");
  CHECK_THROWS_AS(gather(x, 1, full({2, 1}, 3.0, {DType::i64, Device::cpu()})), Error);
  CHECK_THROWS_AS(index_select(x, 0, from_vector<int64_t>({-1})), Error);
  CHECK_THROWS_AS(scatter_add(x, 1, full({2, 1}, -1.0, {DType::i64, Device::cpu()}), zeros({2, 1})), Error);
  CHECK_THROWS_AS(index_add(x, 0, from_vector<int64_t>({2}), zeros({1, 3})), Error);
}
