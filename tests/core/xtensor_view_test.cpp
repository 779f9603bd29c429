#include "core/xtensor_view.h"

#include <doctest/doctest.h>

#include <xtensor/xarray.hpp>
#include <xtensor/xbuilder.hpp>
#include <xtensor/xmath.hpp>

#include "tests/support/errors.h"

using namespace deltatape;

TEST_CASE("xtensor_view: reads and writes a tensor's own memory") {
  Tensor x = from_vector<float>({1, 2, 3, 4, 5, 6}, {2, 3});
  {
    auto view = xtensor_view<float>(x);
    CHECK(view.dimension() == 2);
    CHECK(view(1, 2) == 6);
    view(0, 1) = 20;
  }
  CHECK(x.to_vector<float>() == std::vector<float>{1, 20, 3, 4, 5, 6});
  CHECK(x.storage()->version() == 1);
  const Tensor& constant = x;
  CHECK(xt::sum(xtensor_view<float>(constant))() == 39);
  CHECK(x.storage()->version() == 1);
}

TEST_CASE("xtensor_view: strides of views, sizes of 1 broadcast") {
  const Tensor x = from_vector<double>({0, 1, 2, 3, 4, 5}, {2, 3});
  const Tensor transposed = x.as_view({3, 2}, {1, 3}, 0);
  CHECK(from_xtensor(2.0 * xtensor_view<double>(transposed)).to_vector<double>() ==
        std::vector<double>{0, 6, 2, 8, 4, 10});
  const Tensor column = x.as_view({2, 1}, {3, 1}, 1);  // 1, 4
  CHECK(from_xtensor(xtensor_view<double>(x) + xtensor_view<double>(column)).to_vector<double>() ==
        std::vector<double>{1, 2, 3, 7, 8, 9});
  const Tensor repeated = x.as_view({3, 2}, {0, 1}, 4);
  CHECK(from_xtensor(xtensor_view<double>(repeated)).to_vector<double>() == std::vector<double>{4, 5, 4, 5, 4, 5});
  const Tensor sliced = x.as_view({2, 2}, {3, 2}, 0);
  CHECK(from_xtensor(-xtensor_view<double>(sliced)).to_vector<double>() == std::vector<double>{0, -2, -3, -5});
  Tensor target = empty({3, 2}, DType::f64);
  Tensor target_view = target.as_view({2, 3}, {1, 2}, 0);
  auto writable = xtensor_view<double>(target_view);
  xt::noalias(writable) = xtensor_view<double>(x);
  CHECK(target.to_vector<double>() == std::vector<double>{0, 3, 1, 4, 2, 5});
}

TEST_CASE("from_xtensor: dtype and shape of the expression") {
  const Tensor x = from_xtensor(xt::arange<int>(6));
  CHECK(x.dtype() == DType::i32);
  CHECK(x.to_vector<int64_t>() == std::vector<int64_t>{0, 1, 2, 3, 4, 5});
  CHECK(from_xtensor(xt::arange<long long>(2)).dtype() == DType::i64);
  const xt::xarray<double> scalar = 3.5;
  CHECK(from_xtensor(scalar).shape() == Shape{});
  CHECK(from_xtensor(scalar).item() == 3.5);
  const xt::xarray<float> nothing = xt::zeros<float>({2, 0});
  CHECK(from_xtensor(nothing).shape() == Shape{2, 0});
  const xt::xarray<float> numbers{{1, -2}, {3, -4}};
  const Tensor mask = from_xtensor(numbers > 0.0F);
  CHECK(mask.dtype() == DType::boolean);
  CHECK(mask.to_vector<bool>() == std::vector<bool>{true, false, true, false});
}

TEST_CASE("xtensor_view: another element type is an Error") {
  Tensor x = empty({2}, DType::f32);
  CHECK_ERROR(xtensor_view<double>(x), "Tensor::data: the elements are f32, asked for as f64");
}
