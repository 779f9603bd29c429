#include "ops/linalg.h"

#include <doctest/doctest.h>

#include <limits>

#include "autograd/backward.h"
#include "autograd/gradcheck.h"
#include "ops/ops.h"
#include "tests/support/compare.h"
#include "tests/support/errors.h"
#include "tests/support/random_tensors.h"

using namespace deltatape;
using namespace deltatape::test;

namespace {

void check_gradients(const std::function<Tensor(const Tensor&, const Tensor&)>& f, const Tensor& a, const Tensor& b) {
  const TensorFunction call = [&](const std::vector<Tensor>& x) { return std::vector<Tensor>{f(x[0], x[1])}; };
  const GradcheckReport first = gradcheck(call, {a, b});
  CHECK_MESSAGE(first.ok, first.text());
  const GradcheckReport second = gradgradcheck(call, {a, b});
  CHECK_MESSAGE(second.ok, second.text());
}

// The product as a sum of broadcast elementwise products: [.., M, K, 1] * [.., 1, K, N] over K.
Tensor slow_matmul(const Tensor& a, const Tensor& b) { return sum(mul(unsqueeze(a, -1), unsqueeze(b, -3)), {-2}); }

void check_product(const Tensor& a, const Tensor& b) {
  check_close("product", matmul(a, b), slow_matmul(a, b), rounding(a.dtype(), 32));
}

int64_t peak_bytes_of(const std::function<void()>& call) {
  reset_peak_memory();
  const int64_t before = memory_stats().live_bytes;
  call();
  return memory_stats().peak_bytes - before;
}

}  // namespace

TEST_CASE("matmul: leading dimensions broadcast either way") {
  check_product(random_tensor({4, 3}, 1), random_tensor({3, 5}, 2));
  check_product(random_tensor({2, 6, 4, 3}, 1), random_tensor({3, 5}, 2));
  check_product(random_tensor({2, 6, 4, 3}, 1), random_tensor({1, 1, 3, 5}, 2));
  check_product(random_tensor({4, 3}, 1), random_tensor({2, 6, 3, 5}, 2));
  check_product(random_tensor({2, 1, 4, 3}, 1), random_tensor({6, 3, 5}, 2));
  check_product(random_tensor({2, 1, 4, 3}, 1), random_tensor({1, 6, 3, 5}, 2));
  check_product(random_tensor({3, 1, 2, 4, 3}, 1), random_tensor({1, 5, 2, 3, 5}, 2));
}

TEST_CASE("matmul: strided arguments, also where one stride does not lead through the leading dimensions") {
  const Tensor a = random_tensor({2, 4, 6, 3}, 1);
  const Tensor b = random_tensor({2, 3, 6, 5}, 2);
  check_product(permute(a, {0, 2, 1, 3}), permute(b, {0, 2, 1, 3}));  // [2, 6, 4, 3], [2, 6, 3, 5]
  check_product(permute(a, {2, 0, 1, 3}), random_tensor({3, 5}, 3));
  check_product(transpose(a, -1, -2), random_tensor({6, 5}, 3));
  check_product(slice(a, 3, {1, 3}), random_tensor({2, 7}, 3));
  check_product(slice(a, 1, {0, 4, 2}), transpose(random_tensor({7, 3}, 3), 0, 1));
  check_product(expand(random_tensor({1, 3}, 1), {4, 3}), random_tensor({3, 5}, 2));
}

TEST_CASE("matmul: vectors, and results without elements") {
  const Tensor matrix = from_vector<double>({1, 2, 3, 4, 5, 6}, {2, 3});
  const Tensor v = from_vector<double>({1, 0, -1});
  CHECK(matmul(matrix, v).shape() == Shape{2});
  CHECK(matmul(matrix, v).to_vector<double>() == std::vector<double>{-2, -2});
  CHECK(matmul(from_vector<double>({1, -1}), matrix).to_vector<double>() == std::vector<double>{-3, -3, -3});
  CHECK(matmul(v, v).shape() == Shape{});
  CHECK(matmul(v, v).item() == 2.0);
  CHECK(matmul(v, zeros({4, 3, 2}, {DType::f64, Device::cpu()})).shape() == Shape{4, 2});
  CHECK(matmul(zeros({2, 0}), zeros({0, 3})).to_vector<double>() == std::vector<double>(6, 0.0));
  CHECK(matmul(zeros({5, 0, 2}), zeros({2, 3})).shape() == Shape{5, 0, 3});
  CHECK(matmul(zeros({0, 2, 2}), zeros({2, 3})).shape() == Shape{0, 2, 3});
}

TEST_CASE("matmul: dtypes promote, and 16-bit sums are rounded once") {
  CHECK(matmul(ones({2, 3}), ones({3, 2}, {DType::f64, Device::cpu()})).dtype() == DType::f64);
  const TensorOptions half{DType::bf16, Device::cpu()};
  const Tensor total = matmul(ones({1, 4096}, half), ones({4096, 1}, half));
  CHECK(total.dtype() == DType::bf16);
  CHECK(total.item() == 4096.0);
}

TEST_CASE("matmul: broadcasting and transposing copy nothing") {
  const int64_t n = 64;
  const int64_t matrix_bytes = n * n * 4;
  const Tensor many = ones({8, n, n});
  const Tensor one = ones({n, n});
  CHECK(peak_bytes_of([&] { matmul(many, transpose(one, 0, 1)); }) == 8 * matrix_bytes);
  CHECK(peak_bytes_of([&] { matmul(transpose(one, 0, 1), many); }) == 8 * matrix_bytes);
  CHECK(peak_bytes_of([&] { matmul(transpose(many, 1, 2), expand(one, {8, n, n})); }) == 8 * matrix_bytes);
}

TEST_CASE("matmul: gradients of broadcast, folded and rank-1 arguments") {
  check_gradients(matmul, random_tensor({2, 3, 2}, 1), random_tensor({2, 4}, 2));
  check_gradients(matmul, random_tensor({3, 2}, 1), random_tensor({2, 2, 4}, 2));
  check_gradients(matmul, random_tensor({2, 1, 3, 2}, 1), random_tensor({3, 2, 2}, 2));
  check_gradients(matmul, random_tensor({3}, 1), random_tensor({2, 3, 2}, 2));
  check_gradients(matmul, random_tensor({2, 2, 3}, 1), random_tensor({3}, 2));
  check_gradients(matmul, random_tensor({3}, 1), random_tensor({3}, 2));
}

TEST_CASE("matmul: only what the gradient needs is saved") {
  Tensor weight = ones({64, 64});
  weight.set_requires_grad();
  const Tensor kept = ones({64, 64});
  const int64_t before = memory_stats().live_bytes;
  Tensor y;
  {
    Tensor x = ones({64, 64}) + 0.0;
    x = matmul(x + 1.0, weight);  // x + 1 is needed for the weight's gradient, weight for none
    y = matmul(x, kept);          // x is not needed: kept wants no gradient
  }
  CHECK(memory_stats().live_bytes - before == 2 * 64 * 64 * 4);
}

TEST_CASE("solve_triangular: reads its triangle alone") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const Tensor lower = from_vector<double>({2, nan, 1, 4}, {2, 2});
  const Tensor upper = from_vector<double>({2, 1, nan, 4}, {2, 2});
  const Tensor unit = from_vector<double>({nan, nan, 3, nan}, {2, 2});
  const Tensor b = from_vector<double>({2, 4, 9, 6}, {2, 2});
  CHECK(solve_triangular(lower, b).to_vector<double>() == std::vector<double>{1, 2, 2, 1});
  CHECK(solve_triangular(upper, b, false).to_vector<double>() == std::vector<double>{-0.125, 1.25, 2.25, 1.5});
  CHECK(solve_triangular(unit, b, true, true).to_vector<double>() == std::vector<double>{2, 4, 3, -6});
}

TEST_CASE("solve_triangular: A X = B for broadcast batches, and gradients in the triangle alone") {
  const Tensor eye3 = mul(eye(3, {DType::f64, Device::cpu()}), 3.0);
  const Tensor a = random_tensor({2, 3, 3}, 1) + eye3;
  const Tensor b = random_tensor({4, 1, 3, 2}, 2);
  for (const bool lower : {true, false}) {
    for (const bool unit : {true, false}) {
      CAPTURE(lower);
      CAPTURE(unit);
      Tensor read = lower ? tril(a, unit ? -1 : 0) : triu(a, unit ? 1 : 0);
      if (unit) {
        read = read + eye(3, {DType::f64, Device::cpu()});
      }
      const Tensor x = solve_triangular(a, b, lower, unit);
      CHECK(x.shape() == Shape{4, 2, 3, 2});
      check_close("A X", matmul(read, x), expand(b, {4, 2, 3, 2}), rounding(DType::f64, 64));
      check_gradients([&](const Tensor& s, const Tensor& t) { return solve_triangular(s, t, lower, unit); }, a,
                      random_tensor({3, 2}, 3));
      Tensor leaf = a.detach();
      leaf.set_requires_grad();
      const Tensor da = grad(sum(solve_triangular(leaf, b, lower, unit)), leaf);
      const Tensor outside = lower ? triu(da, unit ? 0 : 1) : tril(da, unit ? 0 : -1);
      CHECK(norm(outside).item() == 0.0);
    }
  }
}

TEST_CASE("tril, triu: any diagonal of any matrix shape") {
  const Tensor x = ones({2, 3});
  CHECK(tril(x).to_vector<double>() == std::vector<double>{1, 0, 0, 1, 1, 0});
  CHECK(tril(x, 1).to_vector<double>() == std::vector<double>{1, 1, 0, 1, 1, 1});
  CHECK(triu(x, 1).to_vector<double>() == std::vector<double>{0, 1, 1, 0, 0, 1});
  CHECK(triu(x, -5).to_vector<double>() == std::vector<double>(6, 1.0));
  CHECK(tril(transpose(ones({3, 2}), 0, 1), -1).to_vector<double>() == std::vector<double>{0, 0, 0, 1, 0, 0});
}

TEST_CASE("products: errors name the function, the argument and what came") {
  const Tensor a = zeros({2, 3});
  CHECK_ERROR(matmul(a, zeros({4, 5})), "matmul: b has shape [4, 5], expected [.., 3, N] for a of shape [2, 3]");
  CHECK_ERROR(matmul(a, zeros({4})), "matmul: b has shape [4], expected [3] for a of shape [2, 3]");
  CHECK_ERROR(matmul(a, zeros({}) + 1.0), "matmul: b has shape [], expected rank 1 or more, [K] or [.., K, N]");
  CHECK_ERROR(matmul(from_vector<int64_t>({1}), a), "matmul: a has dtype i64, expected a floating-point dtype");
  CHECK_ERROR(matmul(zeros({2, 4, 3}), zeros({5, 3, 6})),
              "matmul: b has shape [5, 3, 6], expected leading dimensions that broadcast with those of a, [2, 4, 3]");
  CHECK_ERROR(solve_triangular(a, a), "solve_triangular: a has shape [2, 3], expected [.., M, M]");
  CHECK_ERROR(solve_triangular(zeros({3, 3}), a),
              "solve_triangular: b has shape [2, 3], expected [.., 3, N] for a of shape [3, 3]");
  CHECK_ERROR(tril(zeros({3})), "tril: x has shape [3], expected rank 2 or more, [.., M, N]");
}
