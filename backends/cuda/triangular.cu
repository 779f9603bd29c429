// Triangular systems with many right-hand sides, and the triangles of matrices.
#include <algorithm>
#include <cstdint>

#include "backends/cuda/block_launch.h"
#include "backends/cuda/cuda_backend.h"
#include "backends/cuda/dense.h"
#include "backends/cuda/map.h"

namespace deltatape::cuda {
namespace {

constexpr int64_t kRows = 64;     // of a block that is solved in shared memory
constexpr int64_t kColumns = 32;  // of the right-hand side, per block of threads

/// A batch of matrices of any strides.
template <class T>
struct Matrices {
  const T* data;
  int64_t batch_stride;
  int64_t row_stride;
  int64_t column_stride;
  DT_HD T at(int64_t entry, int64_t row, int64_t column) const {
    return data[entry * batch_stride + row * row_stride + column * column_stride];
  }
};
template <class T>
Matrices<T> matrices(const Tensor& x) {
  return {data_of<const T>(x), x.strides()[0], x.strides()[1], x.strides()[2]};
}

/// Rows [first, first + rows) of X, from b there less what the rows known already contribute (`known` [batch, rows, n],
/// dense, or null). A column of the rest is updated as soon as a row is known.
// Bytes: the triangle, b and what is known read once, X written once.
template <class T>
struct SolveRows {
  Matrices<T> a;
  Matrices<T> b;
  const T* known;
  T* out;  // [batch, m, n]
  int64_t m;
  int64_t n;
  int64_t first;
  int64_t rows;
  int64_t column_blocks;
  bool lower;
  bool unit;

  static constexpr int64_t kShared = shared_bytes<T>(kRows * kRows) + shared_bytes<T>(kRows * kColumns);

  DT_HD void operator()(Block<256>& block) const {
    const Division place = divide(block.index(), column_blocks);
    const int64_t entry = place.quotient;
    const int64_t column = place.remainder * kColumns;
    const int64_t columns = n - column < kColumns ? n - column : kColumns;
    const Shared<T> triangle = block.shared<T>(kRows * kRows);
    const Shared<T> x = block.shared<T>(kRows * kColumns);
    block.each(rows * rows, [&](int64_t i) {
      const Division at = divide(i, rows);
      const bool inside = lower ? at.remainder <= at.quotient : at.remainder >= at.quotient;
      triangle[at.quotient * kRows + at.remainder] =
          inside ? a.at(entry, first + at.quotient, first + at.remainder) : T(0);
    });
    block.each(rows * columns, [&](int64_t i) {
      const Division at = divide(i, columns);
      const T right = b.at(entry, first + at.quotient, column + at.remainder);
      const T less = known == nullptr ? T(0) : known[(entry * rows + at.quotient) * n + column + at.remainder];
      x[at.quotient * kColumns + at.remainder] = right - less;
    });
    for (int64_t step = 0; step < rows; ++step) {
      const int64_t row = lower ? step : rows - 1 - step;
      if (!unit) {
        block.each(columns, [&](int64_t c) {
          x[row * kColumns + c] = static_cast<T>(x[row * kColumns + c]) / static_cast<T>(triangle[row * kRows + row]);
        });
      }
      block.each((rows - 1 - step) * kColumns, [&](int64_t i) {
        const int64_t c = i % kColumns;
        const int64_t other = lower ? row + 1 + i / kColumns : i / kColumns;
        if (c < columns) {
          x[other * kColumns + c] -=
              static_cast<T>(triangle[other * kRows + row]) * static_cast<T>(x[row * kColumns + c]);
        }
      });
    }
    block.each(rows * columns, [&](int64_t i) {
      const Division at = divide(i, columns);
      out[(entry * m + first + at.quotient) * n + column + at.remainder] = x[at.quotient * kColumns + at.remainder];
    });
  }
};

// Bytes: each element read and written once.
template <class Word>
struct Triangle {
  const Word* x;
  Word* out;
  Loop<1> loop;  // through x
  int64_t rows;
  int64_t columns;
  bool lower;
  int64_t diagonal;

  DT_HD void operator()(int64_t i) const {
    const Division at = divide(i, columns);
    const int64_t from_diagonal = at.remainder - divide(at.quotient, rows).remainder;
    const bool kept = lower ? from_diagonal <= diagonal : from_diagonal >= diagonal;
    out[i] = kept ? x[loop.offsets(i).of[0]] : Word(0);
  }
};

/// Rows [first, last) along dimension `dim`.
Tensor part_of(const Tensor& x, int dim, int64_t first, int64_t last) {
  Shape shape = x.shape();
  shape[dim] = last - first;
  return x.as_view(shape, x.strides(), x.offset() + first * x.strides()[dim]);
}

/// Blocks of rows: what the rows solved already contribute to a block is a matrix product, the rest is substitution.
template <class T>
void solve(const Backend& backend, const Tensor& a, const Tensor& b, bool lower, bool unit, const Tensor& out) {
  const int64_t batch = out.shape()[0];
  const int64_t m = out.shape()[1];
  const int64_t n = out.shape()[2];
  const int64_t blocks = (m + kRows - 1) / kRows;
  const int64_t column_blocks = (n + kColumns - 1) / kColumns;
  for (int64_t step = 0; step < blocks; ++step) {
    const int64_t first = (lower ? step : blocks - 1 - step) * kRows;
    const int64_t last = std::min(m, first + kRows);
    Tensor known;
    if (step > 0) {
      const int64_t solved_first = lower ? 0 : last;
      const int64_t solved_last = lower ? first : m;
      known = empty({batch, last - first, n}, out.options());
      backend.matmul(part_of(part_of(a, 1, first, last), 2, solved_first, solved_last),
                     part_of(out, 1, solved_first, solved_last), known);
    }
    launch_program<256>(current_stream(out.device()), batch * column_blocks, SolveRows<T>::kShared,
                        SolveRows<T>{matrices<T>(a), matrices<T>(b), data_of<const T>(known), data_of<T>(out), m, n,
                                     first, last - first, column_blocks, lower, unit});
  }
}

}  // namespace

void CudaBackend::solve_triangular(const Tensor& a, const Tensor& b, bool lower, bool unit, const Tensor& out) const {
  if (out.numel() == 0) {
    return;
  }
  if (out.dtype() == DType::f64) {
    return solve<double>(*this, a, b, lower, unit, out);
  }
  if (out.dtype() == DType::f32) {
    return solve<float>(*this, a, b, lower, unit, out);
  }
  const Tensor wide = empty(out.shape(), DType::f32, out.device());  // 16 bits are computed in f32
  solve<float>(*this, converted(a, DType::f32), converted(b, DType::f32), lower, unit, wide);
  copy(wide, out);
}

void CudaBackend::triangle(const Tensor& x, bool lower, int64_t diagonal, const Tensor& out) const {
  if (out.numel() == 0) {
    return;
  }
  const int64_t rows = out.shape()[out.rank() - 2];
  const int64_t columns = out.shape()[out.rank() - 1];
  visit_element_size(out.dtype(), [&](auto tag) {
    using Word = decltype(tag);
    launch_elements(current_stream(out.device()), out.numel(),
                    Triangle<Word>{data_of<const Word>(x), data_of<Word>(out), merged_loop<1>(out.shape(), {&x}), rows,
                                   columns, lower, std::clamp(diagonal, -rows, columns)});
  });
}

}  // namespace deltatape::cuda
