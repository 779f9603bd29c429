#include "ops/views.h"

#include <doctest/doctest.h>

#include <limits>

#include "ops/arithmetic.h"
#include "ops/creation.h"
#include "ops/inplace.h"
#include "tests/support/errors.h"

using namespace deltatape;

namespace {
using Floats = std::vector<float>;

// 0, 1, 2, ... as f32.
Tensor counted(const Shape& shape) {
  return reshape(arange(0, static_cast<double>(shape.numel()), 1, {DType::f32, Device::cpu()}), shape);
}
Floats values(const Tensor& x) { return x.to_vector<float>(); }
bool share_memory(const Tensor& a, const Tensor& b) { return a.storage() == b.storage(); }
}  // namespace

TEST_CASE("reshape: a view where strides allow it") {
  const Tensor x = counted({2, 3, 4});
  const Tensor y = reshape(x, {6, -1});
  CHECK(y.shape() == Shape{6, 4});
  CHECK(share_memory(x, y));
  CHECK_FALSE(y.is_same(x));
  CHECK_FALSE(reshape(x, {2, 3, 4}).is_same(x));
  // The two outer dimensions of a transposed tensor still lie evenly.
  const Tensor t = permute(x, {2, 0, 1});  // [4, 2, 3]
  const Tensor joined = reshape(t, {4, 6});
  CHECK(share_memory(x, joined));
  CHECK(values(joined) == values(t));
  // Sizes of 1 never stand in the way.
  CHECK(share_memory(x, reshape(transpose(x, 1, 2), {2, 1, 4, 1, 3, 1})));
}

TEST_CASE("reshape: a copy where strides do not allow a view") {
  const Tensor x = counted({2, 3});
  const Tensor y = reshape(transpose(x, 0, 1), {6});
  CHECK_FALSE(share_memory(x, y));
  CHECK(values(y) == Floats{0, 3, 1, 4, 2, 5});
  CHECK(y.is_contiguous());
  // A stretched dimension can be split, but not joined with its neighbour.
  const Tensor stretched = expand(counted({3, 1}), {3, 4});
  CHECK(share_memory(stretched, reshape(stretched, {3, 2, 2})));
  CHECK(values(reshape(stretched, {12})) == values(stretched));
}

TEST_CASE("reshape: empty tensors and rank 0") {
  CHECK(reshape(zeros({2, 0}), {0, 5}).shape() == Shape{0, 5});
  CHECK(reshape(zeros({2, 0}), {2, -1}).shape() == Shape{2, 0});
  CHECK(reshape(scalar(3), {1, 1}).item() == 3);
  CHECK(reshape(counted({1}), {}).rank() == 0);
}

TEST_CASE("reshape: shapes that do not fit are refused") {
  const Tensor x = counted({2, 3});
  CHECK_ERROR(reshape(x, {4}), "reshape: shape is [4], expected 6 elements as in [2, 3]");
  CHECK_ERROR(reshape(x, {4, -1}), "reshape: shape is [4, -1], expected sizes that divide the 6 elements of [2, 3]");
  CHECK_ERROR(reshape(x, {-1, -1}), "reshape: shape is [-1, -1], expected at most one size of -1");
  CHECK_ERROR(reshape(x, {-2, 3}), "reshape: shape is [-2, 3], expected sizes of 0 or more, or one of -1");
  CHECK_ERROR(reshape(zeros({0}), {0, -1}),
              "reshape: shape is [0, -1], expected sizes that divide the 0 elements of [0]");
  const int64_t huge = std::numeric_limits<int64_t>::max();
  CHECK(test::error_of([&] { reshape(x, {huge, huge}); }).find("expected 6 elements") != std::string::npos);
  CHECK_ERROR(reshape(Tensor(), {1}), "reshape: x is undefined, expected a tensor");
}

TEST_CASE("flatten: joins a range of dimensions") {
  const Tensor x = counted({2, 3, 4});
  CHECK(flatten(x).shape() == Shape{24});
  CHECK(flatten(x, 1).shape() == Shape{2, 12});
  CHECK(flatten(x, 0, -2).shape() == Shape{6, 4});
  CHECK(flatten(scalar(1)).shape() == Shape{1});
  CHECK_ERROR(flatten(x, 2, 1), "flatten: first is 2 and last is 1, expected first <= last");
}

TEST_CASE("permute, transpose: views with dimensions in another order") {
  const Tensor x = counted({2, 3, 4});
  const Tensor y = permute(x, {-1, 0, 1});
  CHECK(y.shape() == Shape{4, 2, 3});
  CHECK(share_memory(x, y));
  CHECK(y.strides() == Shape{1, 12, 4});
  CHECK(values(transpose(counted({2, 3}), 0, -1)) == Floats{0, 3, 1, 4, 2, 5});
  CHECK_ERROR(permute(x, {0, 1}), "permute: dims is [0, 1], expected 3 dimensions");
  CHECK_ERROR(permute(x, {0, 1, 1}), "permute: dims is [0, 1, 1], expected each dimension once");
  CHECK_ERROR(transpose(x, 0, 3), "transpose: dim1 is 3, expected -3 to 2 for a tensor of rank 3");
}

TEST_CASE("slice: bounds as in Python") {
  const Tensor x = counted({6});
  CHECK(values(x[Slice{1, 4}]) == Floats{1, 2, 3});
  CHECK(values(x[Slice{}]) == values(x));
  CHECK(values(x[Slice{-2}]) == Floats{4, 5});
  CHECK(values(x[Slice{std::nullopt, -4}]) == Floats{0, 1});
  CHECK(values(x[Slice{-100, 100, 4}]) == Floats{0, 4});
  CHECK(values(x[Slice{1, 6, 2}]) == Floats{1, 3, 5});
  CHECK(values(x[Slice{0, 5, std::numeric_limits<int64_t>::max()}]) == Floats{0});
  CHECK(x[Slice{4, 2}].shape() == Shape{0});
  CHECK(x[Slice{100, 200}].shape() == Shape{0});
  CHECK(share_memory(x, x[Slice{1, 4}]));
  CHECK_ERROR(slice(x, 0, Slice{0, 4, 0}), "slice: step is 0, expected 1 or more");
  CHECK_ERROR(slice(x, 1, Slice{}), "slice: dim is 1, expected -1 to 0 for a tensor of rank 1");
}

TEST_CASE("slice: writing to the view writes to the tensor") {
  Tensor x = zeros({2, 4});
  Tensor y = slice(x, 1, Slice{1, 4, 2});
  fill_(y, 7);
  CHECK(values(x) == Floats{0, 7, 0, 7, 0, 7, 0, 7});
}

TEST_CASE("slice: the gradient lies where the slice was taken") {
  Tensor x = counted({5});
  x.set_requires_grad();
  slice(x, 0, Slice{-4, 100, 2}).backward(from_vector<float>({1, 2}));
  CHECK(values(x.grad()) == Floats{0, 1, 0, 2, 0});
}

TEST_CASE("select: one entry, counted from either end") {
  const Tensor x = counted({2, 3});
  CHECK(values(x[1]) == Floats{3, 4, 5});
  CHECK(values(select(x, 1, -1)) == Floats{2, 5});
  CHECK(x[1][2].item() == 5);
  CHECK(share_memory(x, x[1]));
  CHECK_ERROR(x[2], "select: index is 2, expected -2 to 1 for size 2");
  CHECK_ERROR(select(x, 1, -4), "select: index is -4, expected -3 to 2 for size 3");
}

TEST_CASE("squeeze, unsqueeze: a dimension of size 1 goes and comes") {
  const Tensor x = counted({2, 3});
  CHECK(unsqueeze(x, 0).shape() == Shape{1, 2, 3});
  CHECK(unsqueeze(x, 2).shape() == Shape{2, 3, 1});
  CHECK(unsqueeze(x, -1).shape() == Shape{2, 3, 1});
  CHECK(unsqueeze(x, 1).is_contiguous());
  CHECK(squeeze(unsqueeze(x, 1), -2).shape() == x.shape());
  CHECK_ERROR(squeeze(x, 1), "squeeze: dimension 1 has size 3, expected 1");
  CHECK_ERROR(unsqueeze(x, 3), "unsqueeze: dim is 3, expected -3 to 2 for a tensor of rank 2");
}

TEST_CASE("expand: stretches without copying, and sums the gradient back") {
  Tensor x = from_vector<float>({1, 2}, {2, 1});
  x.set_requires_grad();
  const Tensor y = expand(x, {3, -1, 2});
  CHECK(y.shape() == Shape{3, 2, 2});
  CHECK(share_memory(x, y));
  CHECK(y.strides() == Shape{0, 1, 0});
  y.backward(ones({3, 2, 2}));
  CHECK(x.grad().shape() == Shape{2, 1});
  CHECK(values(x.grad()) == Floats{6, 6});
  CHECK(expand(counted({1}), {0}).shape() == Shape{0});
  CHECK_ERROR(expand(x, {3, 2}), "expand: x has shape [2, 1], expected a shape that broadcasts to [3, 2]");
  CHECK_ERROR(expand(x, {2}), "expand: x has shape [2, 1], expected a shape that broadcasts to [2]");
  CHECK_ERROR(expand(x, {-1, 2, 1}), "expand: x has shape [2, 1], expected a shape that broadcasts to [-1, 2, 1]");
}

TEST_CASE("flip: reversed, in memory of its own") {
  const Tensor x = counted({2, 3});
  CHECK(values(flip(x, {0, -1})) == Floats{5, 4, 3, 2, 1, 0});
  CHECK(values(flip(x, {1})) == Floats{2, 1, 0, 5, 4, 3});
  CHECK(values(flip(x, {})) == values(x));
  CHECK_FALSE(share_memory(x, flip(x, {0})));
  CHECK(flip(zeros({0, 2}), {0}).shape() == Shape{0, 2});
  CHECK_ERROR(flip(x, {0, -2}), "flip: dims is [0, -2], expected distinct dimensions");
}

TEST_CASE("unfold: overlapping windows on the same memory") {
  Tensor x = counted({5});
  x.set_requires_grad();
  const Tensor y = unfold(x, 0, 3, 1);
  CHECK(y.shape() == Shape{3, 3});
  CHECK(share_memory(x, y));
  CHECK(values(y) == Floats{0, 1, 2, 1, 2, 3, 2, 3, 4});
  y.backward(from_vector<float>({1, 1, 1, 10, 10, 10, 100, 100, 100}, {3, 3}));
  CHECK(values(x.grad()) == Floats{1, 11, 111, 110, 100});
  CHECK(unfold(counted({2, 7}), 1, 2, 3).shape() == Shape{2, 2, 2});
  CHECK_ERROR(unfold(x, 0, 6, 1), "unfold: size is 6, expected 1 to 5");
  CHECK_ERROR(unfold(x, 0, 2, 0), "unfold: step is 0, expected 1 or more");
}

TEST_CASE("embed_slice: zeros around") {
  CHECK(values(embed_slice(from_vector<float>({1, 2}), {5}, 0, Slice{0, 4, 2})) == Floats{1, 0, 2, 0, 0});
  CHECK_ERROR(embed_slice(from_vector<float>({1, 2}), {5}, 0, Slice{0, 3}),
              "embed_slice: x has shape [2], expected [3]");
}

TEST_CASE("broadcast_together: the handles themselves where nothing is to be done") {
  const Tensor a = counted({2, 3});
  const Tensor b = counted({2, 3});
  const Broadcasted both = broadcast_together("f", a, b);
  CHECK(both.a.is_same(a));
  CHECK(both.b.is_same(b));
}

TEST_CASE("broadcast_together: common shape and dtype, gradients in the argument's own") {
  Tensor a = from_vector<float>({1, 2, 3});
  Tensor b = from_vector<double>({1, 2}, {2, 1});
  a.set_requires_grad();
  b.set_requires_grad();
  const Broadcasted both = broadcast_together("f", a, b);
  CHECK(both.a.shape() == Shape{2, 3});
  CHECK(both.a.dtype() == DType::f64);
  CHECK(both.b.shape() == Shape{2, 3});
  (both.a * both.b).backward(ones({2, 3}, {DType::f64, Device::cpu()}));
  CHECK(a.grad().dtype() == DType::f32);
  CHECK(values(a.grad()) == Floats{3, 3, 3});
  CHECK(b.grad().shape() == Shape{2, 1});
  CHECK(b.grad().to_vector<double>() == std::vector<double>{6, 6});
}

TEST_CASE("broadcast_together: the error names the function") {
  const Tensor a = counted({2, 4});
  CHECK_ERROR(broadcast_together("mul", a, counted({3})),
              "mul: b has shape [3], expected a shape that broadcasts with [2, 4]");
  CHECK_ERROR(broadcast_together("mul", Tensor(), a), "mul: a is undefined, expected a tensor");
  CHECK_ERROR(broadcast_together("mul", a, Tensor()), "mul: b is undefined, expected a tensor");
}

TEST_CASE("expand: more elements than int64_t holds are refused") {
  const int64_t large = int64_t{1} << 40;
  CHECK_ERROR(expand(ones({1}), {large, large}),
              "expand: the shape [1099511627776, 1099511627776] has more elements than int64_t holds");
}

TEST_CASE("flatten: rank 0 checks its arguments too") {
  CHECK(flatten(scalar(2), 0, -1).shape() == Shape{1});
  CHECK(flatten(scalar(2), -1, 0).shape() == Shape{1});
  CHECK_ERROR(flatten(scalar(2), 1, -1), "flatten: first is 1, expected 0 or -1 for rank 0");
  CHECK_ERROR(flatten(scalar(2), 0, 3), "flatten: last is 3, expected 0 or -1 for rank 0");
}

TEST_CASE("sum_to: the adjoint of expand") {
  const Tensor x = counted({2, 3});
  CHECK(sum_to(x, {2, 3}).is_same(x));
  CHECK(values(sum_to(x, {3})) == Floats{3, 5, 7});
  CHECK(values(sum_to(x, {2, 1})) == Floats{3, 12});
  CHECK(sum_to(x, {1}).shape() == Shape{1});
  CHECK(sum_to(x, {}).item() == 15);
  CHECK(values(sum_to(zeros({0, 2}), {1, 2})) == Floats{0, 0});
  CHECK_ERROR(sum_to(x, {2}), "sum_to: shape is [2], expected a shape that broadcasts to [2, 3]");
}
