// Triangular systems with many right-hand sides, by substitution.
#include <algorithm>

#include "backends/cpu/cpu_backend.h"
#include "backends/cpu/float_rows.h"
#include "backends/cpu/gemm.h"
#include "backends/cpu/thread_split.h"

namespace deltatape::cpu {
namespace {

struct Triangle {
  bool lower;
  bool unit;
};

// Solves in place for the rows [first, last), which no longer depend on any other row. x is row-major, rows ldx apart.
template <class T>
void substitute(Triangle triangle, int64_t first, int64_t last, int64_t n, MatrixView<T> a, T* x, int64_t ldx) {
  for (int64_t step = first; step < last; ++step) {
    const int64_t i = triangle.lower ? step : first + last - 1 - step;
    const int64_t known_first = triangle.lower ? first : i + 1;
    const int64_t known_last = triangle.lower ? i : last;
    T* row = x + i * ldx;
    for (int64_t j = known_first; j < known_last; ++j) {
      const T factor = *a.at(i, j);
      const T* known = x + j * ldx;
      for (int64_t c = 0; c < n; ++c) {
        row[c] -= factor * known[c];
      }
    }
    if (!triangle.unit) {
      const T diagonal = *a.at(i, i);
      for (int64_t c = 0; c < n; ++c) {
        row[c] /= diagonal;
      }
    }
  }
}

// Blocks of rows: what the solved rows contribute to a block is a matrix product, the rest is substitution.
template <class T>
void solve(Triangle triangle, int64_t m, int64_t n, MatrixView<T> a, T* x, int64_t ldx) {
  constexpr int64_t kBlock = 8;
  const int64_t blocks = ceil_div(m, kBlock);
  for (int64_t step = 0; step < blocks; ++step) {
    const int64_t block = triangle.lower ? step : blocks - 1 - step;
    const int64_t first = block * kBlock;
    const int64_t last = std::min(m, first + kBlock);
    const int64_t solved_first = triangle.lower ? 0 : last;
    const int64_t solved_last = triangle.lower ? first : m;
    if (solved_first < solved_last) {
      const MatrixView<T> solved{x + solved_first * ldx, ldx, 1};
      small_gemm(last - first, n, solved_last - solved_first, a.block(first, solved_first), solved, x + first * ldx,
                 ldx, Update::subtract);
    }
    substitute(triangle, first, last, n, a, x, ldx);
  }
}

// Columns [column, column + columns) of one system. `a` and `b` are read in their own type, x holds the solution.
template <class T>
void solve_columns(Triangle triangle, int64_t m, int64_t columns, MatrixView<T> a, MatrixView<T> b, T* out,
                   int64_t ld_out) {
  using C = ComputeType<T>;
  if constexpr (kIsComputeType<T>) {
    for (int64_t i = 0; i < m; ++i) {
      load_row(b.at(i, 0), b.column_stride, columns, out + i * ld_out);
    }
    solve(triangle, m, columns, a, out, ld_out);
  } else {
    Scratch<C> a_wide(m * m);
    Scratch<C> x(m * columns);
    for (int64_t i = 0; i < m; ++i) {
      const int64_t first = triangle.lower ? 0 : i;  // only the triangle is read
      const int64_t last = triangle.lower ? i + 1 : m;
      load_row(a.at(i, first), a.column_stride, last - first, a_wide.data() + i * m + first);
      load_row(b.at(i, 0), b.column_stride, columns, x.data() + i * columns);
    }
    solve(triangle, m, columns, MatrixView<C>{a_wide.data(), m, 1}, x.data(), columns);
    for (int64_t i = 0; i < m; ++i) {
      store_row(x.data() + i * columns, columns, out + i * ld_out);
    }
  }
}

template <class T>
void solve_batched(Triangle triangle, const Tensor& a, const Tensor& b, const Tensor& out) {
  const int64_t batch = out.shape()[0];
  const int64_t m = out.shape()[1];
  const int64_t n = out.shape()[2];
  const auto* a_data = static_cast<const T*>(a.raw());
  const auto* b_data = static_cast<const T*>(b.raw());
  auto* out_data = static_cast<T*>(out.mutable_raw());
  const double nanoseconds = static_cast<double>(m) * static_cast<double>(m) * static_cast<double>(n) / 10.0;
  const int64_t threads = thread_count(static_cast<int64_t>(nanoseconds * static_cast<double>(batch)));
  // Columns are independent of each other: cut there when there are fewer systems than threads. Blocks of columns also
  // keep the solution of a large system in the cache.
  constexpr int64_t kColumns = 256;
  const int64_t wanted = std::min(kColumns, ceil_div(n, batch >= threads ? 1 : ceil_div(threads, batch)));
  const int64_t block_columns = std::min(n, ceil_div(wanted, 16) * 16);
  const int64_t parts = ceil_div(n, block_columns);

  parallel_for(batch * parts, nanoseconds / static_cast<double>(parts), [&](int64_t task) {
    const int64_t entry = task / parts;
    const int64_t column = task % parts * block_columns;
    const MatrixView<T> matrix{a_data + entry * a.strides()[0], a.strides()[1], a.strides()[2]};
    const MatrixView<T> right{b_data + entry * b.strides()[0] + column * b.strides()[2], b.strides()[1],
                              b.strides()[2]};
    solve_columns(triangle, m, std::min(block_columns, n - column), matrix, right, out_data + entry * m * n + column,
                  n);
  });
}

}  // namespace

void CpuBackend::solve_triangular(const Tensor& a, const Tensor& b, bool lower, bool unit, const Tensor& out) const {
  if (out.numel() == 0) {
    return;
  }
  visit_floating(out.dtype(), [&](auto tag) { solve_batched<decltype(tag)>(Triangle{lower, unit}, a, b, out); });
}

void CpuBackend::triangle(const Tensor& x, bool lower, int64_t diagonal, const Tensor& out) const {
  if (out.numel() == 0) {
    return;
  }
  const int rank = out.rank();
  const int64_t rows = out.shape()[rank - 2];
  const int64_t columns = out.shape()[rank - 1];
  const int64_t matrices = out.numel() / (rows * columns);
  diagonal = std::clamp(diagonal, -rows, columns);
  visit_dtype(out.dtype(), [&](auto tag) {
    using T = decltype(tag);
    const auto* in_data = static_cast<const T*>(x.raw());
    auto* out_data = static_cast<T*>(out.mutable_raw());
    const int64_t row_stride = x.strides()[rank - 2];
    const int64_t column_stride = x.strides()[rank - 1];
    parallel_for(matrices * rows, static_cast<double>(columns) * 0.5, [&](int64_t task) {
      const int64_t row = task % rows;
      int64_t rest = task / rows;
      const T* in = in_data + row * row_stride;
      for (int d = rank - 3; d >= 0; --d) {
        in += rest % out.shape()[d] * x.strides()[d];
        rest /= out.shape()[d];
      }
      T* place = out_data + task * columns;
      // Columns [first, last) are kept.
      const int64_t edge = std::clamp<int64_t>(row + diagonal + (lower ? 1 : 0), 0, columns);
      const int64_t first = lower ? 0 : edge;
      const int64_t last = lower ? edge : columns;
      std::fill(place, place + first, T{});
      for (int64_t j = first; j < last; ++j) {
        place[j] = in[j * column_stride];
      }
      std::fill(place + last, place + columns, T{});
    });
  });
}

}  // namespace deltatape::cpu
