#include "ops/joining.h"

#include <doctest/doctest.h>

#include "autograd/node.h"
#include "ops/arithmetic.h"
#include "ops/creation.h"
#include "ops/unary.h"
#include "ops/views.h"
#include "tests/support/errors.h"

using namespace deltatape;

namespace {
using Floats = std::vector<float>;

Tensor counted(const Shape& shape) {
  return reshape(arange(0, static_cast<double>(shape.numel()), 1, {DType::f32, Device::cpu()}), shape);
}
Tensor counted_leaf(const Shape& shape) { return counted(shape).set_requires_grad(); }
Floats values(const Tensor& x) { return x.to_vector<float>(); }
}  // namespace

TEST_CASE("cat: one after another, empty ones included") {
  const Tensor x = counted({2, 2});
  const Tensor y = transpose(counted({1, 2}), 0, 1);  // [2, 1], strided
  CHECK(values(cat({x, y, zeros({2, 0})}, 1)) == Floats{0, 1, 0, 2, 3, 1});
  CHECK(values(cat({x, x}, -2)) == Floats{0, 1, 2, 3, 0, 1, 2, 3});
  CHECK_FALSE(cat({x}, 0).storage() == x.storage());
}

TEST_CASE("cat: a tensor given twice gets both gradients") {
  const Tensor x = counted_leaf({2});
  cat({x, x}, 0).backward(from_vector<float>({1, 2, 10, 20}));
  CHECK(values(x.grad()) == Floats{11, 22});
}

TEST_CASE("cat: tensors that do not fit are refused") {
  const Tensor x = zeros({2, 3});
  CHECK_ERROR(cat({}, 0), "cat: tensors is empty, expected at least one");
  CHECK_ERROR(cat({x, Tensor()}, 0), "cat: tensors[1] is undefined, expected a tensor");
  CHECK_ERROR(cat({x, zeros({2, 4})}, 0), "cat: tensors[1] has shape [2, 4], expected [2, 3] but for dimension 0");
  CHECK_ERROR(cat({x, zeros({2})}, 1), "cat: tensors[1] has shape [2], expected [2, 3] but for dimension 1");
  CHECK_ERROR(cat({x, zeros({2, 3}, {DType::f64, Device::cpu()})}, 0), "cat: tensors[1] has dtype f64, expected f32");
  CHECK_ERROR(cat({scalar(1)}, 0), "cat: tensors[0] has shape [], expected rank 1 or more");
  CHECK_ERROR(cat({x}, 2), "cat: dim is 2, expected -2 to 1 for a tensor of rank 2");
}

TEST_CASE("stack: a new dimension") {
  const Tensor x = from_vector<float>({1, 2});
  const Tensor y = from_vector<float>({3, 4});
  CHECK(values(stack({x, y}, 0)) == Floats{1, 2, 3, 4});
  CHECK(values(stack({x, y}, -1)) == Floats{1, 3, 2, 4});
  CHECK(stack({scalar(1), scalar(2)}, 0).shape() == Shape{2});
  CHECK_ERROR(stack({}, 0), "stack: tensors is empty, expected at least one");
  CHECK_ERROR(stack({x, zeros({3})}, 0), "stack: tensors[1] has shape [3], expected [2]");
  CHECK_ERROR(stack({x}, 2), "stack: dim is 2, expected -2 to 1 for tensors of rank 1");
}

TEST_CASE("split: views of consecutive pieces") {
  const Tensor x = counted({5});
  const std::vector<Tensor> pieces = split(x, {1, 0, 4}, 0);
  REQUIRE(pieces.size() == 3);
  CHECK(values(pieces[0]) == Floats{0});
  CHECK(pieces[1].numel() == 0);
  CHECK(values(pieces[2]) == Floats{1, 2, 3, 4});
  CHECK(pieces[2].storage() == x.storage());
  const std::vector<Tensor> even = split(x, 2, 0);
  REQUIRE(even.size() == 3);
  CHECK(values(even[1]) == Floats{2, 3});
  CHECK(values(even[2]) == Floats{4});
  CHECK(split(zeros({0}), 2, 0).size() == 1);
}

TEST_CASE("split: sizes that do not fill the dimension are refused") {
  const Tensor x = counted({5});
  CHECK_ERROR(split(x, {2, 2}, 0), "split: sizes add up to 4, expected 5, the size of dimension 0");
  CHECK_ERROR(split(x, {2, 4}, 0), "split: sizes add up to 6, expected 5, the size of dimension 0");
  CHECK_ERROR(split(x, {6, -1}, 0), "split: a size is 6, expected 0 to 5");
  CHECK_ERROR(split(x, 0, 0), "split: size is 0, expected 1 or more");
}

TEST_CASE("split, unbind: one node on the tape for all pieces") {
  const Tensor x = counted_leaf({3, 2});
  const std::vector<Tensor> pieces = split(x, 1, 0);
  CHECK(node_of(pieces[0]) == node_of(pieces[2]));
  CHECK(node_of(pieces[0])->name() == "split");
  CHECK(node_of(pieces[0])->outputs().size() == 3);
  const std::vector<Tensor> rows = unbind(x, 0);
  CHECK(node_of(rows[0]) == node_of(rows[2]));
  CHECK(node_of(rows[0])->name() == "unbind");
}

TEST_CASE("split, unbind: a piece that nothing depends on counts as zero") {
  Tensor x = counted_leaf({3, 2});
  square(unbind(x, 0)[1]).backward(ones({2}));
  CHECK(values(x.grad()) == Floats{0, 0, 4, 6, 0, 0});
  x.zero_grad();
  square(split(x, 2, 0)[1]).backward(ones({1, 2}));
  CHECK(values(x.grad()) == Floats{0, 0, 0, 0, 8, 10});
}

TEST_CASE("unbind: every entry, a view") {
  const Tensor x = counted({2, 3});
  const std::vector<Tensor> columns = unbind(x, -1);
  REQUIRE(columns.size() == 3);
  CHECK(values(columns[1]) == Floats{1, 4});
  CHECK(columns[1].storage() == x.storage());
  CHECK(unbind(zeros({2, 0}), 1).empty());
}
