#include "ops/convert.h"

#include <doctest/doctest.h>

#include <cmath>

#include "ops/views.h"
#include "tests/support/errors.h"

using namespace deltatape;

TEST_CASE("to: the tensor itself when it has the dtype or the device") {
  const Tensor x = from_vector<float>({1, 2});
  CHECK(to(x, DType::f32).is_same(x));
  CHECK(to(x, Device::cpu()).is_same(x));
}

TEST_CASE("to: bf16 rounds to nearest, halves to even") {
  const Tensor x = from_vector<float>({1.0F, 1.00390625F, 1.01171875F, 3.14159265F});
  CHECK(to(x, DType::bf16).to_vector<float>() == std::vector<float>{1.0F, 1.0F, 1.015625F, 3.140625F});
}

TEST_CASE("to: bool is whether an element differs from 0") {
  const Tensor x = from_vector<float>({0.0F, -0.0F, 0.5F, NAN});
  CHECK(to(x, DType::boolean).to_vector<bool>() == std::vector<bool>{false, false, true, true});
}

TEST_CASE("to: the gradient comes back in the dtype of the argument") {
  Tensor x = from_vector<float>({1, 2, 3});
  x.set_requires_grad();
  const Tensor y = to(x, DType::f64);
  CHECK(y.dtype() == DType::f64);
  y.backward(from_vector<double>({1, 10, 100}));
  CHECK(x.grad().dtype() == DType::f32);
  CHECK(x.grad().to_vector<float>() == std::vector<float>{1, 10, 100});
}

TEST_CASE("to: an integer result carries no gradient") {
  Tensor x = from_vector<float>({1.75F, -1.75F});
  x.set_requires_grad();
  const Tensor y = to(x, DType::i64);
  CHECK_FALSE(y.requires_grad());
  CHECK(y.to_vector<int64_t>() == std::vector<int64_t>{1, -1});
}

TEST_CASE("contiguous: the tensor itself when dense, a dense copy otherwise") {
  const Tensor x = from_vector<float>({1, 2, 3, 4, 5, 6}, {2, 3});
  CHECK(contiguous(x).is_same(x));
  const Tensor y = contiguous(transpose(x, 0, 1));
  CHECK(y.is_contiguous());
  CHECK_FALSE(y.storage() == x.storage());
  CHECK(y.to_vector<float>() == std::vector<float>{1, 4, 2, 5, 3, 6});
}

TEST_CASE("clone: memory of its own, gradient passed on") {
  Tensor x = from_vector<float>({1, 2});
  x.set_requires_grad();
  const Tensor y = clone(x);
  CHECK_FALSE(y.storage() == x.storage());
  y.backward(from_vector<float>({3, 4}));
  CHECK(x.grad().to_vector<float>() == std::vector<float>{3, 4});
  CHECK_ERROR(clone(Tensor()), "clone: x is undefined, expected a tensor");
}
