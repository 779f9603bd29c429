// Sums, products and extremes over any set of dimensions.
//
// Which elements are combined in which order depends on the shape alone, never on the number of threads: work is cut
// into tasks of fixed size, and their totals are merged in order.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <vector>

#include "backends/cpu/convert_rows.h"
#include "backends/cpu/cpu_backend.h"
#include "backends/cpu/map_rows.h"
#include "backends/cpu/row_sums.h"
#include "backends/cpu/thread_split.h"
#include "backends/elementwise_functions.h"
#include "backends/reduce_identity.h"

namespace deltatape::cpu {
namespace {

constexpr int64_t kBlock = 512;           // elements of a row that are converted or added up at a time
constexpr int64_t kTaskElements = 65536;  // of one task, about
constexpr int64_t kColumns = 2048;        // that are added up side by side: pieces of rows long enough to prefetch
constexpr int64_t kShortRow = 16;         // rows shorter than this are worth walking across

/// A group of dimensions to walk through: sizes, and byte strides in x and in out, innermost first.
struct Dims {
  int rank = 0;
  std::array<int64_t, kMaxRank> sizes{};
  std::array<int64_t, kMaxRank> x_strides{};
  std::array<int64_t, kMaxRank> out_strides{};

  void add(int64_t size, int64_t x_stride, int64_t out_stride) {
    const auto last = static_cast<size_t>(rank - 1);
    if (rank > 0 && x_stride == x_strides[last] * sizes[last] && out_stride == out_strides[last] * sizes[last]) {
      sizes[last] *= size;
      return;
    }
    const auto next = static_cast<size_t>(rank++);
    sizes[next] = size;
    x_strides[next] = x_stride;
    out_strides[next] = out_stride;
  }
  [[nodiscard]] int64_t count() const {
    int64_t product = 1;
    for (int dim = 0; dim < rank; ++dim) {
      product *= sizes[static_cast<size_t>(dim)];
    }
    return product;
  }
  struct Offsets {
    int64_t x = 0;
    int64_t out = 0;
  };
  [[nodiscard]] Offsets at(int64_t index) const {
    Offsets offsets;
    for (int dim = 0; dim < rank; ++dim) {
      const auto d = static_cast<size_t>(dim);
      const int64_t i = rank == dim + 1 ? index : index % sizes[d];
      index /= sizes[d];
      offsets.x += i * x_strides[d];
      offsets.out += i * out_strides[d];
    }
    return offsets;
  }
};

/// The inner dimension is the one that lies densest in memory; whether it is kept or reduced decides on the method.
struct Plan {
  Dims kept;
  Dims reduced;
  int64_t inner = 1;  // size of the inner dimension, which is part of neither list
  int64_t inner_x_stride = 0;
  int64_t inner_out_stride = 0;
  bool inner_kept = false;
};

Plan make_plan(const Tensor& x, const Tensor& out) {
  const auto x_size = static_cast<int64_t>(size_of(x.dtype()));
  const auto out_size = static_cast<int64_t>(size_of(out.dtype()));
  Plan plan;
  // Merge neighbours of one kind first.
  struct Dim {
    int64_t size, x_stride, out_stride;
    bool kept;
  };
  std::array<Dim, kMaxRank> dims{};
  size_t rank = 0;
  for (int dim = x.rank() - 1; dim >= 0; --dim) {
    if (x.shape()[dim] == 1) {
      continue;
    }
    const bool kept = out.shape()[dim] != 1;
    const Dim next{x.shape()[dim], x.strides()[dim] * x_size, kept ? out.strides()[dim] * out_size : 0, kept};
    Dim* last = rank > 0 ? &dims[rank - 1] : nullptr;
    if (last != nullptr && last->kept == kept && next.x_stride == last->x_stride * last->size &&
        next.out_stride == last->out_stride * last->size) {
      last->size *= next.size;
    } else {
      dims[rank++] = next;
    }
  }
  size_t inner = 0;
  while (inner < rank && dims[inner].x_stride != x_size) {
    ++inner;
  }
  inner = inner == rank ? 0 : inner;
  if (rank > 1 && !dims[inner].kept && dims[inner].size < kShortRow) {
    for (size_t dim = 0; dim < rank; ++dim) {
      inner = dims[dim].kept && dims[dim].size >= kShortRow ? dim : inner;
    }
  }
  for (size_t dim = 0; dim < rank; ++dim) {
    const Dim& d = dims[dim];
    if (dim == inner) {
      plan.inner = d.size;
      plan.inner_x_stride = d.x_stride;
      plan.inner_out_stride = d.out_stride;
      plan.inner_kept = d.kept;
    } else {
      (d.kept ? plan.kept : plan.reduced).add(d.size, d.x_stride, d.out_stride);
    }
  }
  return plan;
}

// What is computed. A Reducer has: Value, the type of elements in registers and of partial results of a short block;
// Total, what such partial results are gathered in; Result, what a Total becomes.

/// Sum of f32 terms.
struct WideTotal {
  double sum = 0.0;
  void add(double term) { sum += term; }
  void merge(const WideTotal& other) { sum += other.sum; }
  [[nodiscard]] double result() const { return sum; }
};
/// Sum of f64 terms with the rounding errors kept (Knuth's two-sum), so that the number of terms does not matter.
struct CompensatedTotal {
  double sum = 0.0;
  double error = 0.0;
  void add(double term) {
    const double next = sum + term;
    const double taken = next - sum;
    error += (sum - (next - taken)) + (term - taken);
    sum = next;
  }
  void merge(const CompensatedTotal& other) {
    add(other.sum);
    error += other.error;
  }
  [[nodiscard]] double result() const { return std::isfinite(sum) ? sum + error : sum; }
};
template <class T>
struct FloatSum {
  using Value = T;
  using Total = std::conditional_t<std::is_same_v<T, double>, CompensatedTotal, WideTotal>;
  using Result = double;
  static constexpr T kIdentity = T{0};
  template <class V>
  static V combine(V a, V b) {
    return a + b;
  }
  static double row(const T* x, int64_t count) {
    if (count < kShortRow) {
      double sum = 0.0;
      for (int64_t i = 0; i < count; ++i) {
        sum += static_cast<double>(x[i]);
      }
      return sum;
    }
    return sum_row<T>([](Vec<T> value) { return value; }, count, x);
  }
};

template <class T, class Function>
struct PlainTotal {
  T value = Function::kIdentity;
  void add(T term) { value = Function::combine(value, term); }
  void merge(const PlainTotal& other) { add(other.value); }
  [[nodiscard]] T result() const { return value; }
};
/// A reduction whose partial results need no more precision than its elements.
template <class T, BinaryKind kind, T identity(void)>
struct Plain {
  using Value = T;
  using Total = PlainTotal<T, Plain>;
  using Result = T;
  static constexpr T kIdentity = identity();
  template <class V>
  static V combine(V a, V b) {
    return elementwise::Binary<kind>{}(a, b);
  }
  static T row(const T* x, int64_t count) {
    using L = Lanes<T>;
    T result = kIdentity;
    int64_t i = 0;
    if (count >= 4 * L::kSize) {
      typename L::Pack parts[4] = {L::load(x), L::load(x + L::kSize), L::load(x + 2 * L::kSize),
                                   L::load(x + 3 * L::kSize)};
      for (i = 4 * L::kSize; i + 4 * L::kSize <= count; i += 4 * L::kSize) {
        for (int64_t k = 0; k < 4; ++k) {
          parts[k] = combine(parts[k], L::load(x + i + k * L::kSize));
        }
      }
      T lanes[static_cast<size_t>(L::kSize)];
      L::store(combine(combine(parts[0], parts[1]), combine(parts[2], parts[3])), lanes);
      for (const T lane : lanes) {
        result = combine(result, lane);
      }
    }
    for (; i < count; ++i) {
      result = combine(result, x[i]);
    }
    return result;
  }
};
template <class T>
constexpr T zero() {
  return T{0};
}
template <class T>
constexpr T one() {
  return T{1};
}
template <class T>
constexpr T lowest() {
  return std::numeric_limits<T>::has_infinity ? -std::numeric_limits<T>::infinity() : std::numeric_limits<T>::min();
}
template <class T>
constexpr T highest() {
  return std::numeric_limits<T>::has_infinity ? std::numeric_limits<T>::infinity() : std::numeric_limits<T>::max();
}

/// Reads pieces of rows as T.
template <class T>
class PieceReader {
 public:
  PieceReader(DType dtype, int64_t stride)
      : convert_(convert_row(dtype, dtype_of<T>)),
        stride_(stride),
        direct_(dtype == dtype_of<T> && stride == static_cast<int64_t>(sizeof(T))) {}
  const T* read(const char* from, int64_t count, T* buffer) const {
    if (direct_) {
      return reinterpret_cast<const T*>(from);
    }
    convert_(from, stride_, reinterpret_cast<char*>(buffer), sizeof(T), count);
    return buffer;
  }

 private:
  ConvertRow convert_;
  int64_t stride_;
  bool direct_;
};

template <class Reducer>
class Reduction {
  using T = typename Reducer::Value;
  using Total = typename Reducer::Total;
  using Result = typename Reducer::Result;

 public:
  Reduction(const Tensor& x, const Tensor& out)
      : plan_(make_plan(x, out)),
        from_(static_cast<const char*>(x.raw())),
        to_(static_cast<char*>(out.mutable_raw())),
        elements_(x.numel()),
        reader_(x.dtype(), plan_.inner_x_stride),
        store_(convert_row(dtype_of<Result>, out.dtype())) {}

  void run() const { plan_.inner_kept ? reduce_columns() : reduce_rows(); }

 private:
  // The inner dimension is reduced: each result is made of whole rows.

  void reduce_rows() const {
    const int64_t outputs = plan_.kept.count();
    const int64_t rows = plan_.reduced.count();
    // A task is some rows, or a part of one long row.
    const int64_t pieces = (plan_.inner + kTaskElements - 1) / kTaskElements;
    const int64_t rows_per_task = std::max<int64_t>(1, kTaskElements / plan_.inner);
    const int64_t tasks = pieces > 1 ? rows * pieces : (rows + rows_per_task - 1) / rows_per_task;
    const auto total_of = [&](int64_t output, int64_t task) {
      if (pieces > 1) {
        return rows_total(output, task / pieces, 1, task % pieces * kTaskElements, kTaskElements);
      }
      return rows_total(output, task * rows_per_task, rows_per_task, 0, plan_.inner);
    };
    if (tasks == 1) {
      parallel_ranges(outputs, elements_, [&](int64_t begin, int64_t end) {
        for (int64_t output = begin; output < end; ++output) {
          store(total_of(output, 0), plan_.kept.at(output).out);
        }
      });
      return;
    }
    std::vector<Total> totals(static_cast<size_t>(outputs * tasks));
    parallel_ranges(outputs * tasks, elements_, [&](int64_t begin, int64_t end) {
      for (int64_t item = begin; item < end; ++item) {
        totals[static_cast<size_t>(item)] = total_of(item / tasks, item % tasks);
      }
    });
    for (int64_t output = 0; output < outputs; ++output) {
      Total total;
      for (int64_t task = 0; task < tasks; ++task) {
        total.merge(totals[static_cast<size_t>(output * tasks + task)]);
      }
      store(total, plan_.kept.at(output).out);
    }
  }

  /// Elements first.. of at most `row_count` rows from `row` on.
  Total rows_total(int64_t output, int64_t row, int64_t row_count, int64_t first, int64_t count) const {
    const char* base = from_ + plan_.kept.at(output).x;
    const int64_t last_row = std::min(plan_.reduced.count(), row + row_count);
    const int64_t last = std::min(plan_.inner, first + count);
    alignas(64) T buffer[static_cast<size_t>(kBlock)];
    Total total;
    for (; row < last_row; ++row) {
      const char* start = base + plan_.reduced.at(row).x;
      for (int64_t i = first; i < last; i += kBlock) {
        const int64_t length = std::min(kBlock, last - i);
        total.add(Reducer::row(reader_.read(start + i * plan_.inner_x_stride, length, buffer), length));
      }
    }
    return total;
  }

  void store(const Total& total, int64_t offset) const {
    const Result result = total.result();
    store_(reinterpret_cast<const char*>(&result), 0, to_ + offset, 0, 1);
  }

  // The inner dimension is kept: rows are added to each other, a block of columns at a time.

  using Columns = std::vector<Total>;

  void reduce_columns() const {
    const int64_t outer = plan_.kept.count();
    const int64_t rows = plan_.reduced.count();
    const int64_t blocks = (plan_.inner + kColumns - 1) / kColumns;
    const int64_t width = std::min(kColumns, plan_.inner);
    const int64_t enough_rows = std::max(4 * kTaskElements / width, (rows + kMostTasks - 1) / kMostTasks);
    const int64_t rows_per_task = (enough_rows + kRows - 1) / kRows * kRows;
    const int64_t tasks = (rows + rows_per_task - 1) / rows_per_task;
    std::vector<Columns> totals(static_cast<size_t>(tasks > 1 ? outer * blocks * tasks : 0));
    // The tasks of a block of columns lie side by side in `totals`.
    parallel_ranges(outer * blocks * tasks, elements_, [&](int64_t begin, int64_t end) {
      Columns columns;
      for (int64_t item = begin; item < end; ++item) {
        const int64_t block = item / tasks;
        const int64_t first = block % blocks * kColumns;
        columns.assign(static_cast<size_t>(std::min(kColumns, plan_.inner - first)), Total());
        const int64_t row = item % tasks * rows_per_task;
        add_rows(columns, block / blocks, row, std::min(rows, row + rows_per_task), first);
        if (tasks == 1) {
          store_columns(columns, block / blocks, first);
        } else {
          totals[static_cast<size_t>(item)] = columns;
        }
      }
    });
    if (tasks == 1) {
      return;
    }
    parallel_ranges(outer * blocks, outer * plan_.inner * tasks, [&](int64_t begin, int64_t end) {
      for (int64_t block = begin; block < end; ++block) {
        Columns& sum = totals[static_cast<size_t>(block * tasks)];
        for (int64_t task = 1; task < tasks; ++task) {
          const Columns& next = totals[static_cast<size_t>(block * tasks + task)];
          for (size_t i = 0; i < sum.size(); ++i) {
            sum[i].merge(next[i]);
          }
        }
        store_columns(sum, block / blocks, block % blocks * kColumns);
      }
    });
  }

  static constexpr int64_t kRows = 16;       // that are combined in the precision of T
  static constexpr int64_t kMostTasks = 32;  // per block of columns, so that merging stays a small part

  void add_rows(Columns& columns, int64_t output, int64_t row, int64_t last_row, int64_t first) const {
    const auto width = static_cast<int64_t>(columns.size());
    const char* base = from_ + plan_.kept.at(output).x + first * plan_.inner_x_stride;
    alignas(64) T sums[static_cast<size_t>(kColumns)];
    alignas(64) T buffers[4][static_cast<size_t>(kColumns)];
    while (row < last_row) {
      const int64_t stop = std::min(last_row, row + kRows);
      std::fill_n(sums, width, Reducer::kIdentity);
      for (; row + 4 <= stop; row += 4) {
        const T* a = reader_.read(base + plan_.reduced.at(row).x, width, buffers[0]);
        const T* b = reader_.read(base + plan_.reduced.at(row + 1).x, width, buffers[1]);
        const T* c = reader_.read(base + plan_.reduced.at(row + 2).x, width, buffers[2]);
        const T* d = reader_.read(base + plan_.reduced.at(row + 3).x, width, buffers[3]);
        for (int64_t i = 0; i < width; ++i) {
          sums[i] =
              Reducer::combine(sums[i], Reducer::combine(Reducer::combine(a[i], b[i]), Reducer::combine(c[i], d[i])));
        }
      }
      for (; row < stop; ++row) {
        const T* a = reader_.read(base + plan_.reduced.at(row).x, width, buffers[0]);
        for (int64_t i = 0; i < width; ++i) {
          sums[i] = Reducer::combine(sums[i], a[i]);
        }
      }
      for (int64_t i = 0; i < width; ++i) {
        columns[static_cast<size_t>(i)].add(sums[i]);
      }
    }
  }

  void store_columns(const Columns& columns, int64_t output, int64_t first) const {
    std::array<Result, static_cast<size_t>(kColumns)> results;
    for (size_t i = 0; i < columns.size(); ++i) {
      results[i] = columns[i].result();
    }
    store_(reinterpret_cast<const char*>(results.data()), sizeof(Result),
           to_ + plan_.kept.at(output).out + first * plan_.inner_out_stride, plan_.inner_out_stride,
           static_cast<int64_t>(columns.size()));
  }

  Plan plan_;
  const char* from_;
  char* to_;
  int64_t elements_;
  PieceReader<T> reader_;
  ConvertRow store_;
};

template <class Reducer>
void reduce_with(const Tensor& x, const Tensor& out) {
  Reduction<Reducer>(x, out).run();
}

}  // namespace

void CpuBackend::reduce(ReduceKind kind, const Tensor& x, const Tensor& out) const {
  if (out.numel() == 0) {
    return;
  }
  if (x.numel() == 0) {
    return fill(identity_of(kind), out);
  }
  visit_compute_type(x.dtype(), [&](auto tag) {
    using T = decltype(tag);
    // Products of f32 are gathered in f64, where they hardly ever leave the range on the way.
    using Product = std::conditional_t<std::is_floating_point_v<T>, double, T>;
    using Sum = std::conditional_t<std::is_floating_point_v<T>,
                                   FloatSum<std::conditional_t<std::is_same_v<T, int64_t>, double, T>>,
                                   Plain<int64_t, BinaryKind::add, zero<int64_t>>>;
    switch (kind) {
      case ReduceKind::sum:
        return reduce_with<Sum>(x, out);
      case ReduceKind::prod:
        return reduce_with<Plain<Product, BinaryKind::mul, one<Product>>>(x, out);
      case ReduceKind::max:
        return reduce_with<Plain<T, BinaryKind::maximum, lowest<T>>>(x, out);
      case ReduceKind::min:
        return reduce_with<Plain<T, BinaryKind::minimum, highest<T>>>(x, out);
    }
  });
}

}  // namespace deltatape::cpu
