// Batched products against a triple loop in f64.
#include <doctest/doctest.h>
#include <omp.h>

#include <cmath>
#include <vector>

#include "backends/backend.h"
#include "tests/backends/layouts.h"

using namespace deltatape;
using namespace deltatape::test;

namespace {

struct Size {
  int64_t batch;
  int64_t m;
  int64_t k;
  int64_t n;
};

// How far `out` is from a b, as a share of what rounding allows: sums of k terms, then one rounding.
double error_share(const Tensor& a, const Tensor& b, const Tensor& out, Size size) {
  const std::vector<double> x = a.to_vector<double>();
  const std::vector<double> y = b.to_vector<double>();
  const std::vector<double> z = out.to_vector<double>();
  const double sum_epsilon = out.dtype() == DType::f64 ? 0x1p-53 : 0x1p-24;
  const double subnormal = out.dtype() == DType::f16 ? 0x1p-25 : 0x1p-100;  // rounding of the smallest numbers
  double worst = 0;
  for (int64_t e = 0; e < size.batch; ++e) {
    for (int64_t i = 0; i < size.m; ++i) {
      for (int64_t j = 0; j < size.n; ++j) {
        double sum = 0;
        double magnitude = 0;
        for (int64_t p = 0; p < size.k; ++p) {
          const double term = x[static_cast<size_t>((e * size.m + i) * size.k + p)] *
                              y[static_cast<size_t>((e * size.k + p) * size.n + j)];
          sum += term;
          magnitude += std::abs(term);
        }
        const double limit = static_cast<double>(size.k + 1) * sum_epsilon * magnitude +
                             epsilon_of(out.dtype()) * std::abs(sum) * 1.01 + subnormal;
        const double share = std::abs(z[static_cast<size_t>((e * size.m + i) * size.n + j)] - sum) / limit;
        if (!(share <= worst)) {
          worst = std::isnan(share) ? std::numeric_limits<double>::infinity() : share;
        }
      }
    }
  }
  return worst;
}

void check_product(Size size, DType dtype, Layout a_layout, Layout b_layout, Generator& generator) {
  const Tensor a = random_values({size.batch, size.m, size.k}, dtype, a_layout, generator);
  const Tensor b = random_values({size.batch, size.k, size.n}, dtype, b_layout, generator);
  const Tensor out = empty({size.batch, size.m, size.n}, dtype);
  backend_of(out).matmul(a, b, out);
  CAPTURE(to_string(dtype));
  CAPTURE(a_layout);
  CAPTURE(b_layout);
  CAPTURE(a.shape());
  CAPTURE(b.shape());
  const double share = error_share(a, b, out, size);
  CHECK(share <= 1.0);
}

struct Product {
  Size size;
  DType dtype;
  Layout a_layout = Layout::dense;
  Layout b_layout = Layout::dense;
};

// All products with one number of threads, then all with the next: a change of the number is slow.
void check_threads(const std::vector<Product>& products) {
  const int before = omp_get_max_threads();
  Generator generator(4);
  std::vector<Tensor> left;
  std::vector<Tensor> right;
  std::vector<std::vector<double>> expected;
  left.reserve(products.size());
  right.reserve(products.size());
  expected.reserve(products.size());
  for (const Product& p : products) {
    left.push_back(random_values({p.size.batch, p.size.m, p.size.k}, p.dtype, p.a_layout, generator));
    right.push_back(random_values({p.size.batch, p.size.k, p.size.n}, p.dtype, p.b_layout, generator));
  }
  for (const int threads : {1, 2, 3, 8}) {
    omp_set_num_threads(threads);
    for (size_t i = 0; i < products.size(); ++i) {
      const Product& p = products[i];
      const Tensor out = empty({p.size.batch, p.size.m, p.size.n}, p.dtype);
      backend_of(out).matmul(left[i], right[i], out);
      if (threads == 1) {
        expected.push_back(out.to_vector<double>());
        continue;
      }
      const bool same = out.to_vector<double>() == expected[i];
      CAPTURE(to_string(p.dtype));
      CAPTURE(p.a_layout);
      CAPTURE(p.b_layout);
      CAPTURE(left[i].shape());
      CAPTURE(right[i].shape());
      CAPTURE(threads);
      CHECK(same);
    }
  }
  omp_set_num_threads(before);
}

}  // namespace

TEST_CASE("matmul kernel: small products in every layout and dtype") {
  Generator generator(1);
  constexpr std::array<Size, 10> kSizes{{{1, 1, 1, 1},
                                         {3, 2, 3, 4},
                                         {2, 8, 8, 8},
                                         {2, 5, 17, 39},
                                         {2, 1, 35, 40},
                                         {2, 40, 35, 1},
                                         {2, 3, 20, 2},
                                         {2, 2, 5, 70},
                                         {1, 9, 1, 11},
                                         {2, 16, 48, 16}}};
  for (const Size& size : kSizes) {
    for (const DType dtype : kFloatingTypes) {
      for (const Layout a_layout : kLayouts) {
        for (const Layout b_layout : kLayouts) {
          check_product(size, dtype, a_layout, b_layout, generator);
        }
      }
    }
  }
}

TEST_CASE("matmul kernel: products large enough for BLAS and for several threads") {
  Generator generator(2);
  for (const DType dtype : kFloatingTypes) {
    for (const Layout a_layout : kLayouts) {
      for (const Layout b_layout : kLayouts) {
        check_product({1, 67, 70, 81}, dtype, a_layout, b_layout, generator);
      }
    }
  }
  check_product({1, 150, 130, 140}, DType::f32, Layout::dense, Layout::transposed, generator);
  check_product({3, 90, 64, 90}, DType::f32, Layout::transposed, Layout::dense, generator);
  check_product({40, 16, 64, 16}, DType::f32, Layout::dense, Layout::transposed, generator);
  check_product({1, 2, 600, 300}, DType::f64, Layout::dense, Layout::transposed, generator);
  check_product({1, 530, 16, 20}, DType::bf16, Layout::dense, Layout::dense, generator);
  check_product({1, 20, 16, 530}, DType::f16, Layout::transposed, Layout::transposed, generator);
}

TEST_CASE("matmul kernel: the same bits for any number of threads, blocks on both sides of a limit of sizes [slow]") {
  check_threads({{{1, 200, 1500, 200}, DType::f32},
                 {{1, 64, 5000, 64}, DType::f32},
                 {{1, 128, 4096, 128}, DType::f32},
                 {{1, 40, 300, 1100}, DType::f32},
                 {{1, 200, 1500, 200}, DType::f64},
                 {{1, 200, 1500, 200}, DType::bf16},
                 {{1, 513, 300, 530}, DType::f16, Layout::dense, Layout::transposed}});
}

TEST_CASE("matmul kernel: the same bits for any number of threads, edges of every width [slow]") {
  std::vector<Product> products;
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const Layout a_layout : {Layout::dense, Layout::transposed}) {
      for (const Layout b_layout : {Layout::dense, Layout::transposed}) {
        for (const Size& size : {Size{1, 17, 4000, 33}, Size{1, 201, 700, 35}, Size{1, 3, 9000, 113},
                                 Size{1, 113, 9000, 3}, Size{1, 1, 40000, 67}}) {
          products.push_back({size, dtype, a_layout, b_layout});
        }
      }
    }
  }
  check_threads(products);
}

TEST_CASE("matmul kernel: one matrix for the whole batch") {
  Generator generator(3);
  for (const int64_t m : {1, 5}) {
    check_product({4, m, 7, 9}, DType::f32, Layout::dense, Layout::repeated, generator);
    check_product({4, m, 7, 9}, DType::bf16, Layout::sliced, Layout::repeated, generator);
    check_product({4, m, 7, 9}, DType::f64, Layout::transposed, Layout::repeated, generator);
  }
}

TEST_CASE("matmul kernel: sizes of zero") {
  for (const DType dtype : kFloatingTypes) {
    const Tensor out = empty({2, 3, 4}, dtype);
    backend_of(out).matmul(empty({2, 3, 0}, dtype), empty({2, 0, 4}, dtype), out);
    CHECK(out.to_vector<double>() == std::vector<double>(24, 0.0));
    for (const Shape& shape : {Shape{0, 3, 4}, Shape{2, 0, 4}, Shape{2, 3, 0}}) {
      const Tensor nothing = empty(shape, dtype);
      backend_of(out).matmul(empty({shape[0], shape[1], 5}, dtype), empty({shape[0], 5, shape[2]}, dtype), nothing);
      CHECK(nothing.storage()->guards_intact());
    }
  }
}

TEST_CASE("matmul kernel: NaN and infinity come through") {
  Generator generator(4);
  for (const int64_t size : {4, 64}) {  // both paths
    const Tensor a = random_values({1, size, size}, DType::f32, Layout::dense, generator);
    const Tensor b = random_values({1, size, size}, DType::f32, Layout::dense, generator);
    static_cast<float*>(a.mutable_raw())[0] = std::numeric_limits<float>::infinity();
    static_cast<float*>(b.mutable_raw())[size * size - 1] = std::numeric_limits<float>::quiet_NaN();
    const Tensor out = empty({1, size, size}, DType::f32);
    backend_of(out).matmul(a, b, out);
    const std::vector<double> values = out.to_vector<double>();
    CHECK(std::isinf(values[0]));
    CHECK(std::isnan(values.back()));
    CHECK(std::isfinite(values[static_cast<size_t>(size)]));
  }
}
