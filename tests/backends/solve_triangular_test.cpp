// Triangular systems and masks against plain loops.
#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "backends/backend.h"
#include "tests/backends/layouts.h"

using namespace deltatape;
using namespace deltatape::test;

namespace {

bool in_triangle(int64_t row, int64_t column, bool lower) { return lower ? column <= row : column >= row; }

// A well-conditioned triangular matrix; NaN where the solver must not read.
Tensor triangular_matrix(const Shape& shape, DType dtype, Layout layout, bool lower, bool unit, Generator& generator) {
  const Tensor a = in_layout(shape, dtype, layout);
  const double off_diagonal = 1.0 / static_cast<double>(shape[1]);
  set_values(a, [&](const Shape& index) {
    if (index[1] == index[2]) {
      return unit ? std::numeric_limits<double>::quiet_NaN() : 1.0 + generator.next_uniform();
    }
    return in_triangle(index[1], index[2], lower) ? off_diagonal * (2 * generator.next_uniform() - 1)
                                                  : std::numeric_limits<double>::quiet_NaN();
  });
  return a;
}

void check_solution(const Shape& a_shape, int64_t n, DType dtype, Layout a_layout, Layout b_layout, bool lower,
                    bool unit, Generator& generator) {
  const int64_t m = a_shape[1];
  const Tensor a = triangular_matrix(a_shape, dtype, a_layout, lower, unit, generator);
  const Tensor b = random_values({a_shape[0], m, n}, dtype, b_layout, generator);
  const Tensor out = empty({a_shape[0], m, n}, dtype);
  backend_of(out).solve_triangular(a, b, lower, unit, out);
  const std::vector<double> matrix = a.to_vector<double>();
  const std::vector<double> right = b.to_vector<double>();
  const std::vector<double> x = out.to_vector<double>();
  double worst = 0;  // of the residual A x - b
  for (int64_t e = 0; e < a_shape[0]; ++e) {
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        double sum = 0;
        for (int64_t p = 0; p < m; ++p) {
          if (in_triangle(i, p, lower)) {
            const double factor = p == i && unit ? 1.0 : matrix[static_cast<size_t>((e * m + i) * m + p)];
            sum += factor * x[static_cast<size_t>((e * m + p) * n + j)];
          }
        }
        const double error = std::abs(sum - right[static_cast<size_t>((e * m + i) * n + j)]);
        if (!(error <= worst)) {
          worst = std::isnan(error) ? std::numeric_limits<double>::infinity() : error;
        }
      }
    }
  }
  CAPTURE(to_string(dtype));
  CAPTURE(a_layout);
  CAPTURE(b_layout);
  CAPTURE(lower);
  CAPTURE(unit);
  CAPTURE(out.shape());
  CHECK(worst <= 16 * epsilon_of(dtype));
}

}  // namespace

TEST_CASE("solve_triangular kernel: every layout, dtype and triangle; the rest of the matrix is not read") {
  Generator generator(1);
  for (const DType dtype : kFloatingTypes) {
    for (const Layout layout : {Layout::dense, Layout::transposed, Layout::sliced, Layout::repeated}) {
      for (const bool lower : {true, false}) {
        for (const bool unit : {true, false}) {
          check_solution({2, 1, 1}, 3, dtype, layout, Layout::dense, lower, unit, generator);
          check_solution({2, 5, 5}, 7, dtype, layout, layout, lower, unit, generator);
          check_solution({3, 19, 19}, 1, dtype, layout, Layout::flat, lower, unit, generator);
          check_solution({2, 33, 33}, 40, dtype, layout, Layout::transposed, lower, unit, generator);
        }
      }
    }
  }
}

TEST_CASE("solve_triangular kernel: large systems, batches and many right-hand sides") {
  Generator generator(2);
  check_solution({1, 130, 130}, 70, DType::f32, Layout::dense, Layout::dense, true, false, generator);
  check_solution({1, 130, 130}, 70, DType::f64, Layout::transposed, Layout::dense, false, false, generator);
  check_solution({1, 16, 16}, 600, DType::f32, Layout::dense, Layout::dense, true, true, generator);
  check_solution({30, 16, 16}, 64, DType::f32, Layout::dense, Layout::dense, true, true, generator);
}

TEST_CASE("solve_triangular kernel: sizes of zero") {
  for (const Shape& shape : {Shape{0, 3, 4}, Shape{2, 0, 4}, Shape{2, 3, 0}}) {
    const Tensor out = empty(shape, DType::f32);
    backend_of(out).solve_triangular(empty({shape[0], shape[1], shape[1]}, DType::f32), empty(shape, DType::f32), true,
                                     false, out);
    CHECK(out.numel() == 0);
  }
}

TEST_CASE("triangle kernel: every dtype, layout and diagonal") {
  Generator generator(3);
  for (const DType dtype : kAllTypes) {
    for (const Layout layout : kLayouts) {
      const Tensor x = random_values({2, 3, 4, 6}, dtype, layout, generator, 1, 9);
      const std::vector<double> values = x.to_vector<double>();
      for (const bool lower : {true, false}) {
        for (const int64_t diagonal :
             {int64_t{0}, int64_t{1}, int64_t{-2}, int64_t{9}, int64_t{-9}, INT64_MAX, INT64_MIN}) {
          const Tensor out = empty(x.shape(), dtype);
          backend_of(out).triangle(x, lower, diagonal, out);
          std::vector<double> expected = values;
          for (int64_t i = 0; i < x.numel(); ++i) {
            const int64_t row = i / 6 % 4;
            const int64_t column = i % 6;
            if (lower ? column - row > diagonal : column - row < diagonal) {
              expected[static_cast<size_t>(i)] = 0;
            }
          }
          CAPTURE(to_string(dtype));
          CAPTURE(layout);
          CAPTURE(lower);
          CAPTURE(diagonal);
          CHECK(out.to_vector<double>() == expected);
        }
      }
    }
  }
  const Tensor nothing = empty({2, 0, 3}, DType::f32);
  backend_of(nothing).triangle(nothing, true, 0, nothing);
}
