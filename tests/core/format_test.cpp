// operator<< for tensors.
#include <doctest/doctest.h>

#include <limits>
#include <sstream>

#include "core/tensor.h"

using namespace deltatape;

namespace {

std::string text_of(const Tensor& tensor) {
  std::ostringstream out;
  out << tensor;
  return out.str();
}

}  // namespace

TEST_CASE("printing: numbers, vectors, matrices") {
  CHECK(text_of(from_vector<float>({1.5F}, {})) == "1.5000 f32[] cpu");
  CHECK(text_of(from_vector<int64_t>({1, -20, 3})) == "[  1, -20,   3] i64[3] cpu");
  CHECK(text_of(from_vector<float>({1, 2, 3, 4}, {2, 2})) == "[[1., 2.],\n [3., 4.]]\nf32[2, 2] cpu");
  CHECK(text_of(from_vector<double>({0.25, -10})) == "[  0.2500, -10.0000] f64[2] cpu");
  CHECK(text_of(from_vector<bool>({true, false})) == "[ true, false] bool[2] cpu");
  CHECK(text_of(from_vector<BFloat16>({BFloat16(0.5F)})) == "[0.5000] bf16[1] cpu");
  CHECK(text_of(from_vector<Float16>({Float16(-2)})) == "[-2.] f16[1] cpu");
  CHECK(text_of(from_vector<int32_t>({1, 2, 3, 4}, {2, 1, 2})) == "[[[1, 2]],\n\n [[3, 4]]]\ni32[2, 1, 2] cpu");
}

TEST_CASE("printing: views show their own elements") {
  const Tensor x = from_vector<int64_t>({0, 1, 2, 3, 4, 5}, {2, 3});
  CHECK(text_of(x.as_view({3, 2}, {1, 3}, 0)) == "[[0, 3],\n [1, 4],\n [2, 5]]\ni64[3, 2] cpu");
}

TEST_CASE("printing: long dimensions show both ends") {
  std::vector<int64_t> values;
  for (int64_t i = 0; i < 100; ++i) {
    values.push_back(i);
  }
  CHECK(text_of(from_vector(values)) == "[ 0,  1,  2, ..., 97, 98, 99] i64[100] cpu");
  CHECK(text_of(from_vector(values, {50, 2})) ==
        "[[ 0,  1],\n [ 2,  3],\n [ 4,  5],\n ...,\n [94, 95],\n [96, 97],\n [98, 99]]\ni64[50, 2] cpu");
}

TEST_CASE("printing: large, small and special numbers") {
  const float inf = std::numeric_limits<float>::infinity();
  CHECK(text_of(from_vector<float>({1e-5F, 1})) == "[1.0000e-05, 1.0000e+00] f32[2] cpu");
  CHECK(text_of(from_vector<float>({3e10F})) == "[3.0000e+10] f32[1] cpu");
  CHECK(text_of(from_vector<float>({1, std::numeric_limits<float>::quiet_NaN(), -inf})) ==
        "[  1.,  nan, -inf] f32[3] cpu");
  CHECK(text_of(from_vector<float>({0, 0})) == "[0., 0.] f32[2] cpu");
}

TEST_CASE("printing: empty and undefined") {
  CHECK(text_of(empty({0})) == "[] f32[0] cpu");
  CHECK(text_of(empty({2, 0, 3}, DType::i32)) == "[] i32[2, 0, 3] cpu");
  CHECK(text_of(Tensor()) == "undefined");
}
