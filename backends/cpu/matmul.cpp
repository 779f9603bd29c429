// Batched matrix products: how they are cut into pieces for threads.
#include <algorithm>
#include <limits>

#include "backends/cpu/cpu_backend.h"
#include "backends/cpu/float_rows.h"
#include "backends/cpu/gemm.h"
#include "backends/cpu/thread_split.h"

namespace deltatape::cpu {
namespace {

// `extent` rows or columns of C cut into pieces at multiples of 16: whole registers and cache lines. A piece has at
// least 4 unless there is only one, since gemm adds up otherwise for fewer.
class Pieces {
 public:
  Pieces(int64_t extent, int64_t count)
      : extent_(extent),
        units_(std::max(int64_t{1}, (extent + kUnit - kLeast) / kUnit)),
        count_(std::min(count, units_)) {}
  [[nodiscard]] int64_t count() const { return count_; }
  [[nodiscard]] int64_t begin(int64_t piece) const {
    return piece == count_ ? extent_ : units_ * piece / count_ * kUnit;
  }
  [[nodiscard]] int64_t size(int64_t piece) const { return begin(piece + 1) - begin(piece); }
  [[nodiscard]] int64_t largest() const { return std::min(extent_, ceil_div(units_, count_) * kUnit + kLeast - 1); }

 private:
  static constexpr int64_t kUnit = 16;
  static constexpr int64_t kLeast = 4;
  int64_t extent_;
  int64_t units_;
  int64_t count_;
};

// out [rows, columns] in f32, dense in the direction in which `in` is.
template <class T>
MatrixView<float> widen(int64_t rows, int64_t columns, MatrixView<T> in, float* out) {
  const bool by_columns = in.column_stride != 1 && in.row_stride == 1;
  const MatrixView<T> source = by_columns ? in.transposed() : in;
  const int64_t outer = by_columns ? columns : rows;
  const int64_t inner = by_columns ? rows : columns;
  for (int64_t i = 0; i < outer; ++i) {
    load_row(source.at(i, 0), source.column_stride, inner, out + i * inner);
  }
  const MatrixView<float> dense{out, inner, 1};
  return by_columns ? dense.transposed() : dense;
}

// C = A B for a 16-bit type: blocks of A and B are widened to f32, and C is rounded once at the end.
template <class T>
void gemm_widened(Sums sums, int64_t m, int64_t n, int64_t k, MatrixView<T> a, MatrixView<T> b, T* c, int64_t ldc) {
  constexpr int64_t kBlock = 512;  // rows and columns at a time, roughly; all of k, so that C is rounded once
  const Pieces row_pieces(m, ceil_div(m, kBlock));
  const Pieces column_pieces(n, ceil_div(n, kBlock));
  Scratch<float> a_wide(row_pieces.largest() * k);
  Scratch<float> b_wide(k * column_pieces.largest());
  Scratch<float> c_wide(row_pieces.largest() * column_pieces.largest());
  for (int64_t q = 0; q < column_pieces.count(); ++q) {
    const int64_t j = column_pieces.begin(q);
    const int64_t columns = column_pieces.size(q);
    const MatrixView<float> b_view = widen(k, columns, b.block(0, j), b_wide.data());
    for (int64_t p = 0; p < row_pieces.count(); ++p) {
      const int64_t i = row_pieces.begin(p);
      const int64_t rows = row_pieces.size(p);
      const MatrixView<float> a_view = widen(rows, k, a.block(i, 0), a_wide.data());
      gemm(sums, rows, columns, k, a_view, b_view, c_wide.data(), columns);
      for (int64_t r = 0; r < rows; ++r) {
        store_row(c_wide.data() + r * columns, columns, c + (i + r) * ldc + j);
      }
    }
  }
}

// One matrix per batch entry.
template <class T>
struct Batch {
  const T* data;
  int64_t stride;
  int64_t row_stride;
  int64_t column_stride;

  explicit Batch(const Tensor& x)
      : data(static_cast<const T*>(x.raw())),
        stride(x.strides()[0]),
        row_stride(x.strides()[1]),
        column_stride(x.strides()[2]) {}
  [[nodiscard]] MatrixView<T> at(int64_t entry) const { return {data + entry * stride, row_stride, column_stride}; }
};

// How one product is cut into row_parts x column_parts blocks.
struct Grid {
  int64_t row_parts = 1;
  int64_t column_parts = 1;
};

// `parts` blocks that are as square as possible, since a block reads its rows of A and its columns of B in full.
Grid square_grid(int64_t m, int64_t n, int64_t parts) {
  Grid best{parts, 1};
  double least = std::numeric_limits<double>::infinity();
  for (int64_t rows = 1; rows <= parts; ++rows) {
    if (parts % rows != 0) {
      continue;
    }
    const Grid grid{rows, parts / rows};
    const double cost = static_cast<double>(ceil_div(m, grid.row_parts) + ceil_div(n, grid.column_parts));
    if (cost < least) {
      least = cost;
      best = grid;
    }
  }
  return best;
}

template <class T>
void matmul_batched(const Tensor& x, const Tensor& y, const Tensor& out) {
  Batch<T> a(x);
  const Batch<T> b(y);
  auto* c_data = static_cast<T*>(out.mutable_raw());
  int64_t batch = out.shape()[0];
  int64_t m = out.shape()[1];
  const int64_t n = out.shape()[2];
  const int64_t k = x.shape()[2];
  // One matrix b for the whole batch, and rows of a at equal distances: a single product with more rows.
  if (batch > 1 && b.stride == 0 && (m == 1 || a.stride == m * a.row_stride)) {
    a.row_stride = m == 1 ? a.stride : a.row_stride;
    m *= batch;
    batch = 1;
  }
  constexpr double kFlopsPerNanosecond = 100;
  const double nanoseconds =
      2.0 * static_cast<double>(m) * static_cast<double>(n) * (static_cast<double>(k) + 1.0) / kFlopsPerNanosecond;
  const int64_t threads = thread_count(static_cast<int64_t>(nanoseconds * static_cast<double>(batch)));
  // Decided for the whole product: its blocks depend on the number of threads.
  const bool b_has_rows = b.column_stride == 1 || (!kIsComputeType<T> && b.row_stride != 1);  // after widening
  const Sums sums = gemm_sums<ComputeType<T>>(m, n, k, b_has_rows);
  const auto multiply = [&](int64_t entry, int64_t row, int64_t rows, int64_t column, int64_t columns) {
    const MatrixView<T> x_block = a.at(entry).block(row, 0);
    const MatrixView<T> y_block = b.at(entry).block(0, column);
    T* c = c_data + (entry * m + row) * n + column;
    if constexpr (kIsComputeType<T>) {
      gemm(sums, rows, columns, k, x_block, y_block, c, n);
    } else {
      gemm_widened(sums, rows, columns, k, x_block, y_block, c, n);
    }
  };
  constexpr int64_t kMost = int64_t{1} << 30;  // rows or columns at a time: BLAS counts in int
  if (threads == 1 && m <= kMost && n <= kMost) {
    for (int64_t entry = 0; entry < batch; ++entry) {
      multiply(entry, 0, m, 0, n);
    }
    return;
  }
  // Blocks of a product only where there are fewer products than threads; never along k, so that sums stay the same.
  const Grid grid = square_grid(m, n, batch >= threads ? 1 : ceil_div(threads, batch));
  const Pieces row_pieces(m, std::max(grid.row_parts, ceil_div(m, kMost)));
  const Pieces column_pieces(n, std::max(grid.column_parts, ceil_div(n, kMost)));
  const int64_t parts = row_pieces.count() * column_pieces.count();
  parallel_for(batch * parts, nanoseconds / static_cast<double>(parts), [&](int64_t task) {
    const int64_t row = task % parts / column_pieces.count();
    const int64_t column = task % column_pieces.count();
    multiply(task / parts, row_pieces.begin(row), row_pieces.size(row), column_pieces.begin(column),
             column_pieces.size(column));
  });
}

}  // namespace

void CpuBackend::matmul(const Tensor& a, const Tensor& b, const Tensor& out) const {
  if (out.numel() == 0) {
    return;
  }
  if (a.shape()[2] == 0) {
    fill(0.0, out);
    return;
  }
  visit_floating(out.dtype(), [&](auto tag) { matmul_batched<decltype(tag)>(a, b, out); });
}

}  // namespace deltatape::cpu
