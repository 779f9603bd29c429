// Each way to multiply two matrices on one thread against a triple loop, whichever the machine would choose.
#include "backends/cpu/gemm.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "core/generator.h"

using namespace deltatape;
using namespace deltatape::cpu;

namespace {

struct Size {
  int64_t m;
  int64_t n;
  int64_t k;
};
constexpr std::array<Size, 12> kSizes{{{1, 1, 1},
                                       {4, 4, 4},
                                       {1, 37, 50},
                                       {2, 150, 9},
                                       {37, 1, 50},
                                       {40, 2, 33},
                                       {3, 3, 70},
                                       {8, 5, 1},
                                       {13, 7, 19},
                                       {23, 35, 40},
                                       {17, 100, 66},
                                       {45, 70, 270}}};

enum class Order : uint8_t { rows, columns, spread };

// A matrix of random numbers in memory that is larger than it, the rest NaN.
template <class T>
struct Matrix {
  Matrix(int64_t rows, int64_t columns, Order order, Generator& generator) {
    if (order == Order::rows) {
      view = {nullptr, columns + 3, 1};
    } else if (order == Order::columns) {
      view = {nullptr, 1, rows + 2};
    } else {
      view = {nullptr, 2 * columns + 1, 2};
    }
    memory.assign(static_cast<size_t>(rows * view.row_stride + columns * view.column_stride),
                  std::numeric_limits<T>::quiet_NaN());
    view.data = memory.data();
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < columns; ++j) {
        memory[static_cast<size_t>(i * view.row_stride + j * view.column_stride)] =
            static_cast<T>(2 * generator.next_uniform() - 1);
      }
    }
  }
  std::vector<T> memory;
  MatrixView<T> view{};
};

// Calls multiply(size, a, b, c, ldc) for all sizes and orders. C starts as `initial`, and c = keep * initial + factor *
// A B is expected; the columns beyond n must not change.
template <class T, class F>
void check_products(double initial, double keep, double factor, F&& multiply) {
  Generator generator(1);
  for (const Size size : kSizes) {
    for (const Order a_order : {Order::rows, Order::columns, Order::spread}) {
      for (const Order b_order : {Order::rows, Order::columns, Order::spread}) {
        const Matrix<T> a(size.m, size.k, a_order, generator);
        const Matrix<T> b(size.k, size.n, b_order, generator);
        const int64_t ldc = size.n + 2;
        constexpr T kUntouched = T(77);
        std::vector<T> c(static_cast<size_t>(size.m * ldc), kUntouched);
        for (int64_t i = 0; i < size.m; ++i) {
          for (int64_t j = 0; j < size.n; ++j) {
            c[static_cast<size_t>(i * ldc + j)] = static_cast<T>(initial);
          }
        }
        multiply(size, a.view, b.view, c.data(), ldc);
        bool right = true;
        for (int64_t i = 0; i < size.m; ++i) {
          for (int64_t j = 0; j < ldc; ++j) {
            const auto actual = static_cast<double>(c[static_cast<size_t>(i * ldc + j)]);
            if (j >= size.n) {
              right = right && actual == static_cast<double>(kUntouched);
              continue;
            }
            double sum = 0;
            for (int64_t p = 0; p < size.k; ++p) {
              sum += static_cast<double>(*a.view.at(i, p)) * static_cast<double>(*b.view.at(p, j));
            }
            const double expected = (keep == 0 ? 0 : keep * initial) + factor * sum;
            const double limit =
                static_cast<double>(size.k + 2) * static_cast<double>(std::numeric_limits<T>::epsilon());
            right = right && std::abs(actual - expected) <= limit;
          }
        }
        CAPTURE(size.m);
        CAPTURE(size.n);
        CAPTURE(size.k);
        CAPTURE(a_order);
        CAPTURE(b_order);
        CHECK(right);
      }
    }
  }
}

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

}  // namespace

TEST_CASE_TEMPLATE("small_gemm: sets, adds and subtracts", T, float, double) {
  check_products<T>(kNan, 0, 1, [](Size size, auto a, auto b, T* c, int64_t ldc) {
    small_gemm(size.m, size.n, size.k, a, b, c, ldc, Update::set);
  });
  check_products<T>(0.5, 1, 1, [](Size size, auto a, auto b, T* c, int64_t ldc) {
    small_gemm(size.m, size.n, size.k, a, b, c, ldc, Update::add);
  });
  check_products<T>(0.5, 1, -1, [](Size size, auto a, auto b, T* c, int64_t ldc) {
    small_gemm(size.m, size.n, size.k, a, b, c, ldc, Update::subtract);
  });
  check_products<T>(0.5, 1, -1, [](Size size, auto a, auto b, T* c, int64_t ldc) {
    chain_gemm(size.m, size.n, size.k, a, b, c, ldc, Update::subtract);
  });
}

TEST_CASE_TEMPLATE("blocked_gemm, blas_gemm and gemm", T, float, double) {
  check_products<T>(kNan, 0, 1, [](Size size, auto a, auto b, T* c, int64_t ldc) {
    blocked_gemm(size.m, size.n, size.k, a, b, c, ldc);
  });
  check_products<T>(kNan, 0, 1, [](Size size, auto a, auto b, T* c, int64_t ldc) {
    blas_gemm(size.m, size.n, size.k, a, b, c, ldc);
  });
  check_products<T>(kNan, 0, 1,
                    [](Size size, auto a, auto b, T* c, int64_t ldc) { gemm(size.m, size.n, size.k, a, b, c, ldc); });
}

// The largest difference between C by `multiply` and by blas_gemm.
template <class F>
double difference_from_blas(Size size, Order a_order, Order b_order, F&& multiply) {
  Generator generator(2);
  const Matrix<float> a(size.m, size.k, a_order, generator);
  const Matrix<float> b(size.k, size.n, b_order, generator);
  std::vector<float> c(static_cast<size_t>(size.m * size.n), std::numeric_limits<float>::quiet_NaN());
  multiply(a.view, b.view, c.data());
  std::vector<float> other(c.size());
  blas_gemm(size.m, size.n, size.k, a.view, b.view, other.data(), size.n);
  double worst = 0;
  for (size_t i = 0; i < c.size(); ++i) {
    const double difference = std::abs(static_cast<double>(c[i]) - static_cast<double>(other[i]));
    if (!(difference <= worst)) {
      worst = std::isnan(difference) ? std::numeric_limits<double>::infinity() : difference;
    }
  }
  return worst;
}

TEST_CASE("blocked_gemm: more than one block in every direction") {
  constexpr Size kSize{199, 530, 520};
  const double worst = difference_from_blas(kSize, Order::rows, Order::columns, [&](auto a, auto b, float* c) {
    blocked_gemm(kSize.m, kSize.n, kSize.k, a, b, c, kSize.n);
  });
  CHECK(worst <= 1e-4);
}

TEST_CASE("gemm: more than one block of rows, in every order") {
  constexpr Size kSize{203, 35, 700};
  for (const Order a_order : {Order::rows, Order::columns, Order::spread}) {
    for (const Order b_order : {Order::rows, Order::columns, Order::spread}) {
      const double worst = difference_from_blas(kSize, a_order, b_order, [&](auto a, auto b, float* c) {
        gemm(kSize.m, kSize.n, kSize.k, a, b, c, kSize.n);
      });
      CAPTURE(a_order);
      CAPTURE(b_order);
      CHECK(worst <= 1e-4);
    }
  }
}

TEST_CASE("gemm: long sums of positive numbers stay accurate") {
  constexpr int64_t kTerms = 65536;
  Generator generator(5);
  // Few rows; B small; B large; and dot products, with few rows and with few columns.
  for (const Size size :
       {Size{4, 64, kTerms}, {40, 4, kTerms}, {40, 5, kTerms}, {1, 8, kTerms}, {2, 16, kTerms}, {16, 2, kTerms}}) {
    for (const Order a_order : {Order::rows, Order::columns}) {
      for (const Order b_order : {Order::rows, Order::columns}) {
        Matrix<float> a(size.m, size.k, a_order, generator);
        Matrix<float> b(size.k, size.n, b_order, generator);
        for (std::vector<float>* memory : {&a.memory, &b.memory}) {
          for (float& x : *memory) {
            x = std::abs(x);
          }
        }
        std::vector<float> c(static_cast<size_t>(size.m * size.n));
        gemm(size.m, size.n, size.k, a.view, b.view, c.data(), size.n);
        double worst = 0;
        for (int64_t i = 0; i < size.m; ++i) {
          for (int64_t j = 0; j < size.n; ++j) {
            double sum = 0;
            for (int64_t p = 0; p < size.k; ++p) {
              sum += static_cast<double>(*a.view.at(i, p)) * static_cast<double>(*b.view.at(p, j));
            }
            worst = std::max(worst, std::abs(static_cast<double>(c[static_cast<size_t>(i * size.n + j)]) / sum - 1));
          }
        }
        CAPTURE(size.m);
        CAPTURE(size.n);
        CAPTURE(a_order);
        CAPTURE(b_order);
        CHECK(worst <= 1e-6);
      }
    }
  }
}

TEST_CASE_TEMPLATE("small_gemm: every height of tiles, exact in ascending order of k", T, float, double) {
  Generator generator(4);
  constexpr int64_t kDepth = 21;
  small_gemm<T>(0, 16, kDepth, {nullptr, kDepth, 1}, {nullptr, 16, 1}, nullptr, 16, Update::add);  // no rows, nothing
  for (int64_t m = 4; m <= 40; ++m) {
    for (const int64_t n : {int64_t{16}, int64_t{33}}) {
      const Matrix<T> a(m, kDepth, Order::columns, generator);
      const Matrix<T> b(kDepth, n, Order::rows, generator);
      std::vector<T> c(static_cast<size_t>(m * n), std::numeric_limits<T>::quiet_NaN());
      small_gemm(m, n, kDepth, a.view, b.view, c.data(), n, Update::set);
      bool right = true;
      for (int64_t i = 0; i < m; ++i) {
        for (int64_t j = 0; j < n; ++j) {
          T fused = T(0);
          T rounded = T(0);
          for (int64_t p = 0; p < kDepth; ++p) {
            const T x = *a.view.at(i, p);
            const T y = *b.view.at(p, j);
            fused = std::fma(x, y, fused);
            rounded = x * y + rounded;
          }
          const T actual = c[static_cast<size_t>(i * n + j)];
          right = right && (actual == fused || actual == rounded);
        }
      }
      CAPTURE(m);
      CAPTURE(n);
      CHECK(right);
    }
  }
}

TEST_CASE("pack_matrix: every order, sizes that fill no register") {
  Generator generator(3);
  for (const Order order : {Order::rows, Order::columns, Order::spread}) {
    for (const auto& [rows, columns] : {std::pair<int64_t, int64_t>{1, 1}, {4, 4}, {7, 5}, {1, 9}, {9, 1}, {18, 13}}) {
      const Matrix<float> matrix(rows, columns, order, generator);
      std::vector<float> out(static_cast<size_t>(rows * columns));
      pack_matrix(rows, columns, matrix.view, out.data());
      bool right = true;
      for (int64_t i = 0; i < rows; ++i) {
        for (int64_t j = 0; j < columns; ++j) {
          right = right && out[static_cast<size_t>(i * columns + j)] == *matrix.view.at(i, j);
        }
      }
      CHECK(right);
    }
  }
}
