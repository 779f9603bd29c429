#include "core/tensor.h"

#include <doctest/doctest.h>

#include <cmath>

#include "tests/support/errors.h"

using namespace deltatape;

TEST_CASE("from_vector and to_vector: every dtype, conversions, layouts") {
  CHECK(from_vector<float>({1.5F, -2}).to_vector<float>() == std::vector<float>{1.5F, -2});
  CHECK(from_vector<double>({1.5, -2}).dtype() == DType::f64);
  CHECK(from_vector<int64_t>({int64_t{1} << 40}).to_vector<int64_t>() == std::vector<int64_t>{int64_t{1} << 40});
  CHECK(from_vector<int32_t>({-7}).to_vector<double>() == std::vector<double>{-7});
  CHECK(from_vector<bool>({true, false, true}).to_vector<bool>() == std::vector<bool>{true, false, true});
  CHECK(from_vector<bool>({true, false}).to_vector<float>() == std::vector<float>{1, 0});
  const Tensor bf16 = from_vector<BFloat16>({BFloat16(1.0F), BFloat16(3.140625F)});
  CHECK(bf16.to_vector<float>() == std::vector<float>{1, 3.140625F});
  const Tensor f16 = from_vector<Float16>({Float16(65504.0F), Float16(0.1F)});
  CHECK(f16.to_vector<double>()[0] == 65504.0);
  CHECK(from_vector<float>({0.1F}).to_vector<BFloat16>()[0].bits == BFloat16(0.1F).bits);
  CHECK(from_vector<double>({0.1}).to_vector<Float16>()[0].bits == Float16(0.1F).bits);
  CHECK(from_vector<float>({2.75F}).to_vector<int64_t>() == std::vector<int64_t>{2});

  const Tensor matrix = from_vector<int64_t>({0, 1, 2, 3, 4, 5}, {2, 3});
  CHECK(matrix.as_view({3, 2}, {1, 3}, 0).to_vector<int64_t>() == std::vector<int64_t>{0, 3, 1, 4, 2, 5});
  CHECK(matrix.as_view({2, 2}, {0, 2}, 1).to_vector<int64_t>() == std::vector<int64_t>{1, 3, 1, 3});
  CHECK(matrix.as_view({}, {}, 4).to_vector<int64_t>() == std::vector<int64_t>{4});
  CHECK(empty({2, 0, 3}).to_vector<float>().empty());
}

TEST_CASE("from_vector: the number of elements must fit the shape") {
  CHECK_ERROR(from_vector(std::vector<float>{1, 2, 3}, {2, 2}),
              "from_vector: values has 3 elements, expected 4 for shape [2, 2]");
  CHECK_ERROR(from_vector(std::vector<bool>{true}, {0}),
              "from_vector: values has 1 elements, expected 0 for shape [0]");
}

TEST_CASE("empty: shapes that cannot be are Errors") {
  CHECK_ERROR(empty({2, -1}), "empty: shape is [2, -1], expected sizes of 0 or more");
  CHECK_ERROR(empty({int64_t{1} << 40, int64_t{1} << 40}, DType::f64),
              "empty: shape [1099511627776, 1099511627776] of f64 does not fit in memory");
}

TEST_CASE("Tensor: contiguity") {
  const Tensor x = empty({2, 3, 4});
  CHECK(x.is_contiguous());
  CHECK(!x.as_view({2, 4, 3}, {12, 1, 4}, 0).is_contiguous());
  CHECK(x.as_view({2, 1, 12}, {12, 99, 1}, 0).is_contiguous());  // the stride of a size of 1 means nothing
  CHECK(x.as_view({3, 0}, {7, 7}, 0).is_contiguous());
  CHECK(x.as_view({}, {}, 3).is_contiguous());
  CHECK(!x.as_view({2, 3}, {0, 1}, 0).is_contiguous());
}

TEST_CASE("Tensor: handles, sizes and access") {
  Tensor x = from_vector<float>({1, 2, 3, 4, 5, 6}, {2, 3});
  const Tensor same = x;
  CHECK(same.is_same(x));
  CHECK(!same.is_same(x.as_view({2, 3}, {3, 1}, 0)));
  CHECK(x.size(0) == 2);
  CHECK(x.size(-1) == 3);
  CHECK_ERROR(x.size(2), "Tensor::size: dim is 2, expected -2 to 1 for a tensor of rank 2");
  x.mutable_data<float>()[0] = 9;
  CHECK(same.data<float>()[0] == 9);
  CHECK_ERROR(x.data<double>(), "Tensor::data: the elements are f32, asked for as f64");
  CHECK_ERROR(x.mutable_data<int32_t>(), "Tensor::data: the elements are f32, asked for as i32");
  CHECK_ERROR(Tensor().data<float>(), "Tensor::data: the tensor is undefined");
  CHECK(!Tensor().defined());
}

TEST_CASE("item: the only element, of any dtype") {
  CHECK(from_vector<float>({2.5F}).item() == 2.5);
  CHECK(from_vector<bool>({true}, {1, 1}).item() == 1.0);
  CHECK(from_vector<BFloat16>({BFloat16(-3)}, {}).item() == -3.0);
  CHECK(from_vector<int64_t>({1, 2, 3}).as_view({}, {}, 1).item() == 2.0);
  CHECK_ERROR(from_vector<float>({1, 2}).item(), "Tensor::item: the tensor has shape [2], expected one element");
  CHECK_ERROR(empty({0}).item(), "Tensor::item: the tensor has shape [0], expected one element");
  CHECK_ERROR(Tensor().item(), "Tensor::item: the tensor is undefined");
  CHECK_ERROR(Tensor().to_vector<float>(), "Tensor::to_vector: the tensor is undefined");
}

TEST_CASE("describe: dtype, shape and device") {
  CHECK(describe(empty({2, 3}, DType::bf16)) == "bf16[2, 3] cpu");
  CHECK(describe(empty({}, DType::boolean)) == "bool[] cpu");
  CHECK(describe(Tensor()) == "undefined");
}

TEST_CASE("Device: names") {
  CHECK(to_string(Device::parse("f", "cpu")) == "cpu");
  CHECK(Device::parse("f", "cpu") == Device::cpu());
  CHECK_ERROR(Device::parse("f", "gpu"), "f: device is 'gpu', expected cpu, cuda or cuda:N");
  CHECK_ERROR(Device::parse("f", "cuda:x"), "f: device is 'cuda:x', expected cpu, cuda or cuda:N");
  CHECK_ERROR(Device::parse("f", "cuda:-1"), "f: device is 'cuda:-1', expected cpu, cuda or cuda:N");
}
