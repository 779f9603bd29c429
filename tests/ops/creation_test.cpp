#include "ops/creation.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "tests/support/errors.h"

using namespace deltatape;

TEST_CASE("zeros, ones, full: shape, dtype and every element") {
  const Tensor x = full({2, 3}, 1.5, {DType::f64, Device::cpu()});
  CHECK(x.shape() == Shape{2, 3});
  CHECK(x.dtype() == DType::f64);
  CHECK(x.is_contiguous());
  CHECK_FALSE(x.requires_grad());
  CHECK(x.to_vector<double>() == std::vector<double>(6, 1.5));
  CHECK(zeros({3}).to_vector<float>() == std::vector<float>(3, 0.0F));
  CHECK(zeros({3}).dtype() == DType::f32);
  CHECK(ones({2}, {DType::boolean, Device::cpu()}).to_vector<bool>() == std::vector<bool>{true, true});
  CHECK(full({2}, -7, {DType::i32, Device::cpu()}).to_vector<int32_t>() == std::vector<int32_t>{-7, -7});
  CHECK(zeros({2, 0, 3}).numel() == 0);
}

TEST_CASE("zeros_like, ones_like: shape and dtype of the model, dense, without history") {
  Tensor like = from_vector<double>({1, 2, 3, 4, 5, 6}, {2, 3});
  like.set_requires_grad();
  const Tensor z = zeros_like(like);
  CHECK(z.shape() == like.shape());
  CHECK(z.dtype() == DType::f64);
  CHECK_FALSE(z.requires_grad());
  CHECK(ones_like(like).to_vector<double>() == std::vector<double>(6, 1.0));
  CHECK_ERROR(zeros_like(Tensor()), "zeros_like: like is undefined, expected a tensor");
}

TEST_CASE("scalar: rank 0") {
  const Tensor x = scalar(2.5);
  CHECK(x.rank() == 0);
  CHECK(x.item() == 2.5);
}

TEST_CASE("full: an integer tensor takes whole numbers in its range only") {
  CHECK_ERROR(full({2}, 0.5, {DType::i64, Device::cpu()}),
              "full: value is 0.5, expected a whole number that i64 holds");
  CHECK_ERROR(full({2}, 3e9, {DType::i32, Device::cpu()}),
              "full: value is 3000000000, expected a whole number that i32 holds");
  CHECK_ERROR(scalar(NAN, {DType::i64, Device::cpu()}), "scalar: value is nan, expected a whole number that i64 holds");
  CHECK(full({1}, 3e9, {DType::i64, Device::cpu()}).item() == 3e9);
}

TEST_CASE("arange: up to but without the end") {
  CHECK(arange(4).to_vector<int64_t>() == std::vector<int64_t>{0, 1, 2, 3});
  CHECK(arange(4).dtype() == DType::i64);
  CHECK(arange(0).numel() == 0);
  CHECK(arange(5, 0, -2).to_vector<int64_t>() == std::vector<int64_t>{5, 3, 1});
  CHECK(arange(2, 2).numel() == 0);
  const Tensor x = arange(0, 1, 0.25, {DType::f64, Device::cpu()});
  CHECK(x.to_vector<double>() == std::vector<double>{0, 0.25, 0.5, 0.75});
}

TEST_CASE("arange: bad ranges are refused") {
  CHECK_ERROR(arange(0, 4, 0), "arange: step is 0, expected a number that leads from 0 to 4");
  CHECK_ERROR(arange(0, 4, -1), "arange: step is -1, expected a number that leads from 0 to 4");
  CHECK_ERROR(arange(-1), "arange: count is -1, expected 0 or more");
  CHECK_ERROR(arange(0, 1, 0.25), "arange: step is 0.25, expected a whole number that i64 holds");
  CHECK_ERROR(arange(0, std::numeric_limits<double>::infinity()),
              "arange: the range is 0 to inf, expected finite bounds");
  const TensorOptions i32{DType::i32, Device::cpu()};
  CHECK(arange(0, 2.5e9, 1.5e9, i32).to_vector<double>() == std::vector<double>{0, 1.5e9});
  CHECK_ERROR(arange(0, 4e9, 1.5e9, i32),
              "arange: the last element is 3000000000, expected a whole number that i32 holds");
  CHECK_ERROR(arange(0, 70000, 1, {DType::f16, Device::cpu()}), "arange: the range 0 to 69999 leaves the range of f16");
}

TEST_CASE("eye: ones on the diagonal") {
  CHECK(eye(3).to_vector<float>() == std::vector<float>{1, 0, 0, 0, 1, 0, 0, 0, 1});
  CHECK(eye(0).shape() == Shape{0, 0});
  CHECK_ERROR(eye(-1), "eye: n is -1, expected 0 or more");
}
