// Along one dimension: cumulative sums, and the place of the largest or smallest entry.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include "backends/cpu/convert_rows.h"
#include "backends/cpu/cpu_backend.h"
#include "backends/cpu/float_rows.h"
#include "backends/cpu/lines.h"
#include "backends/cpu/map_rows.h"
#include "backends/cpu/row_loop.h"
#include "backends/cpu/stream_store.h"

namespace deltatape::cpu {
namespace {

constexpr int64_t kColumns = 1024;  // lines that are walked side by side

/// Lines that lie side by side in memory are walked together, so that memory is read in order.
int64_t lines_per_piece(int64_t length) { return std::max<int64_t>(16, 16384 / std::max<int64_t>(1, length)); }

/// As many lines as give every thread some, within what is good to walk side by side.
int64_t columns_per_piece(int64_t lines) {
  return std::clamp<int64_t>((lines + omp_get_max_threads() - 1) / omp_get_max_threads(), 256, kColumns);
}

/// out[c] = sums[c] += x[c], in f64.
template <class T>
void add_row(const T* __restrict x, double* __restrict sums, T* __restrict out, int64_t count) {
  for (int64_t c = 0; c < count; ++c) {
    sums[c] += static_cast<double>(x[c]);
    out[c] = static_cast<T>(sums[c]);
  }
}

/// The same for four rows, `step` elements apart, a cache line of each at a time: the sums are loaded and stored once.
/// The rows `ahead` are fetched meanwhile: they need not lie where the processor expects them.
template <class T>
void add_four_rows(const T* x, int64_t x_step, const T* ahead, double* sums, T* out, int64_t out_step, int64_t count,
                   bool stream) {
  constexpr auto kLine = static_cast<int64_t>(64 / sizeof(T));
  const T* rows[4] = {x, x + x_step, x + 2 * x_step, x + 3 * x_step};
  int64_t first = 0;
  for (; first + kLine <= count; first += kLine) {
    alignas(64) T results[4][static_cast<size_t>(kLine)];
    for (int64_t row = 0; row < 4; ++row) {
      __builtin_prefetch(ahead + row * x_step + first);
    }
    for (int64_t c = 0; c < kLine; ++c) {
      const double a = sums[first + c] + static_cast<double>(rows[0][first + c]);
      const double b = a + static_cast<double>(rows[1][first + c]);
      const double d = b + static_cast<double>(rows[2][first + c]);
      const double e = d + static_cast<double>(rows[3][first + c]);
      results[0][c] = static_cast<T>(a);
      results[1][c] = static_cast<T>(b);
      results[2][c] = static_cast<T>(d);
      results[3][c] = static_cast<T>(e);
      sums[first + c] = e;
    }
    for (int64_t row = 0; row < 4; ++row) {
      if (stream) {
        stream_store(out + row * out_step + first, results[row], 64);
      } else {
        std::memcpy(out + row * out_step + first, results[row], 64);
      }
    }
  }
  for (int64_t row = 0; row < 4; ++row) {
    add_row(rows[row] + first, sums + first, out + row * out_step + first, count - first);
  }
}

/// Cumulative sums down `length` dense rows of `count` elements; `sums` starts as zeros.
template <class T>
void cumsum_rows(const T* x, int64_t x_step, double* sums, T* out, int64_t out_step, int64_t count, int64_t length,
                 bool stream) {
  int64_t i = 0;
  for (; i + 4 <= length; i += 4) {
    const T* rows = x + i * x_step;
    add_four_rows(rows, x_step, i + 8 <= length ? rows + 4 * x_step : rows, sums, out + i * out_step, out_step, count,
                  stream);
  }
  for (; i < length; ++i) {
    add_row(x + i * x_step, sums, out + i * out_step, count);
  }
  if (stream) {
    end_of_stream();
  }
}

/// The same lines as cumsum_lines, f32 side by side in memory at both ends: nothing to convert.
void cumsum_f32_lines(const char* from, int64_t from_step, char* to, int64_t to_step, int64_t count, int64_t length,
                      bool stream) {
  constexpr auto kSize = static_cast<int64_t>(sizeof(float));
  std::array<double, static_cast<size_t>(kColumns)> sums{};
  cumsum_rows(reinterpret_cast<const float*>(from), from_step / kSize, sums.data(), reinterpret_cast<float*>(to),
              to_step / kSize, count, length, stream);
}

/// `count` lines of `length` elements. Sums are kept in f64 (or i64).
template <class T>
void cumsum_lines(const char* from, int64_t from_line, int64_t from_step, ConvertRow load, char* to, int64_t to_line,
                  int64_t to_step, ConvertRow store, int64_t count, int64_t length) {
  std::array<T, static_cast<size_t>(kColumns)> sums{};
  std::array<T, static_cast<size_t>(kColumns)> values;
  for (int64_t i = 0; i < length; ++i) {
    load(from + i * from_step, from_line, reinterpret_cast<char*>(values.data()), sizeof(T), count);
    for (size_t c = 0; c < static_cast<size_t>(count); ++c) {
      sums[c] += values[c];
    }
    store(reinterpret_cast<const char*>(sums.data()), sizeof(T), to + i * to_step, to_line, count);
  }
}

/// Adds to each value all those before it, and `sum`; returns the last. Out of line, since GCC keeps the sum in memory
/// when it inlines this, at five times the cost.
template <class T>
[[gnu::noinline]] T add_previous(T* values, int64_t count, T sum) {
  for (int64_t i = 0; i < count; ++i) {
    sum += values[i];
    values[i] = sum;
  }
  return sum;
}

/// Four lines of f32 at once, so that no addition waits for the one before it.
void cumsum_four_f32_lines(const char* from, int64_t from_line, int64_t from_step, char* to, int64_t to_line,
                           int64_t to_step, int64_t length) {
  double sums[4] = {};
  for (int64_t i = 0; i < length; ++i) {
    for (int64_t line = 0; line < 4; ++line) {
      sums[line] += static_cast<double>(*reinterpret_cast<const float*>(from + line * from_line + i * from_step));
      *reinterpret_cast<float*>(to + line * to_line + i * to_step) = static_cast<float>(sums[line]);
    }
  }
}

/// One line: blocks are converted at a time.
template <class T>
void cumsum_line(const char* from, int64_t from_step, ConvertRow load, char* to, int64_t to_step, ConvertRow store,
                 int64_t length) {
  constexpr int64_t kBlock = 512;
  std::array<T, static_cast<size_t>(kBlock)> values;
  T sum{0};
  for (int64_t first = 0; first < length; first += kBlock) {
    const int64_t count = std::min(kBlock, length - first);
    load(from + first * from_step, from_step, reinterpret_cast<char*>(values.data()), sizeof(T), count);
    sum = add_previous(values.data(), count, sum);
    store(reinterpret_cast<const char*>(values.data()), sizeof(T), to + first * to_step, to_step, count);
  }
}

/// Whether `value` takes the place of `best`: NaN comes before everything, the first before later equals.
template <class T>
bool beats(T value, T best, bool largest) {
  if (value != value) {
    return best == best;
  }
  return largest ? value > best : value < best;
}

template <class T>
void arg_reduce_lines(bool largest, const char* from, int64_t from_line, int64_t from_step, ConvertRow load, char* to,
                      int64_t to_line, int64_t count, int64_t length) {
  std::array<T, static_cast<size_t>(kColumns)> best;
  std::array<T, static_cast<size_t>(kColumns)> values;
  std::array<int64_t, static_cast<size_t>(kColumns)> places{};
  load(from, from_line, reinterpret_cast<char*>(best.data()), sizeof(T), count);
  for (int64_t i = 1; i < length; ++i) {
    load(from + i * from_step, from_line, reinterpret_cast<char*>(values.data()), sizeof(T), count);
    for (size_t c = 0; c < static_cast<size_t>(count); ++c) {
      const bool better = beats(values[c], best[c], largest);
      best[c] = better ? values[c] : best[c];
      places[c] = better ? i : places[c];
    }
  }
  for (int64_t c = 0; c < count; ++c) {
    *reinterpret_cast<int64_t*>(to + c * to_line) = places[static_cast<size_t>(c)];
  }
}

template <class T>
int64_t arg_reduce_line(bool largest, const char* from, int64_t from_step, ConvertRow load, int64_t length) {
  constexpr int64_t kBlock = 512;
  std::array<T, static_cast<size_t>(kBlock)> values;
  T best{};
  int64_t place = 0;
  for (int64_t first = 0; first < length; first += kBlock) {
    const int64_t count = std::min(kBlock, length - first);
    load(from + first * from_step, from_step, reinterpret_cast<char*>(values.data()), sizeof(T), count);
    for (int64_t i = 0; i < count; ++i) {
      const T value = values[static_cast<size_t>(i)];
      if (first + i == 0 || beats(value, best, largest)) {
        best = value;
        place = first + i;
      }
    }
  }
  return place;
}

/// Whether lines are better walked side by side: their starts are closer together than their elements.
bool side_by_side(int64_t line_stride, int64_t step, int64_t count) { return count > 1 && line_stride <= step; }

}  // namespace

void CpuBackend::cumsum(const Tensor& x, int dim, bool reverse, const Tensor& out) const {
  if (out.numel() == 0) {
    return;
  }
  const int64_t length = x.shape()[dim];
  const Tensor x_lines = line_starts(x, dim);
  const Tensor out_lines = line_starts(out, dim);
  const RowLoop<2> loop({&out_lines, &x_lines});
  const auto lines = loop.row_strides();
  const int64_t to_step = byte_stride(out, dim);
  const int64_t from_step = byte_stride(x, dim);
  // From the end: the same walk, started at the last element with negative steps.
  const int64_t sign = reverse ? -1 : 1;
  const int64_t start = reverse ? length - 1 : 0;
  const bool f32 = x.dtype() == DType::f32 && out.dtype() == DType::f32;
  const bool dense_f32 = f32 && lines[0] == sizeof(float) && lines[1] == sizeof(float);
  const bool stream = dense_f32 && out.numel() * static_cast<int64_t>(sizeof(float)) >= kStreamBytes;
  const auto walk = [&](auto tag) {
    using T = decltype(tag);
    const ConvertRow load = convert_row(x.dtype(), dtype_of<T>);
    const ConvertRow store = convert_row(dtype_of<T>, out.dtype());
    loop.run(
        [&](const std::array<char*, 2>& at, int64_t count) {
          char* to = at[0] + start * to_step;
          const char* from = at[1] + start * from_step;
          if (side_by_side(lines[1], from_step, count)) {
            for (int64_t c = 0; c < count; c += kColumns) {
              if (dense_f32) {
                cumsum_f32_lines(from + c * lines[1], sign * from_step, to + c * lines[0], sign * to_step,
                                 std::min(kColumns, count - c), length, stream);
                continue;
              }
              cumsum_lines<T>(from + c * lines[1], lines[1], sign * from_step, load, to + c * lines[0], lines[0],
                              sign * to_step, store, std::min(kColumns, count - c), length);
            }
            return;
          }
          int64_t c = 0;
          for (; f32 && c + 4 <= count; c += 4) {
            cumsum_four_f32_lines(from + c * lines[1], lines[1], sign * from_step, to + c * lines[0], lines[0],
                                  sign * to_step, length);
          }
          for (; c < count; ++c) {
            cumsum_line<T>(from + c * lines[1], sign * from_step, load, to + c * lines[0], sign * to_step, store,
                           length);
          }
        },
        length, side_by_side(lines[1], from_step, 2) ? columns_per_piece(loop.size(0)) : lines_per_piece(length));
  };
  is_floating(x.dtype()) ? walk(double{}) : walk(int64_t{});
}

void CpuBackend::chunk_cumsum(const Tensor& x, const Tensor& starts, bool reverse, const Tensor& out) const {
  const int64_t batch = x.shape()[0];
  const int64_t time = x.shape()[1];
  const int64_t width = out.numel() == 0 ? 0 : x.numel() / (batch * time);
  const int64_t chunks = starts.numel() - 1;
  const int64_t* bounds = starts.data<int64_t>();
  visit_floating(x.dtype(), [&](auto tag) {
    using T = decltype(tag);
    if constexpr (std::is_same_v<T, ComputeType<T>>) {
      const auto* from = static_cast<const T*>(x.raw());
      auto* to = static_cast<T*>(out.mutable_raw());
      parallel_ranges(batch * chunks, out.numel(), [&](int64_t begin, int64_t end) {
        std::vector<double> sums(static_cast<size_t>(width));
        for (int64_t item = begin; item < end; ++item) {
          const int64_t first = bounds[item % chunks];
          const int64_t last = bounds[item % chunks + 1];
          std::fill(sums.begin(), sums.end(), 0.0);
          // From the end: the same walk, started at the last token with negative steps.
          const int64_t start = (item / chunks * time + (reverse ? last - 1 : first)) * width;
          const int64_t step = reverse ? -width : width;
          cumsum_rows(from + start, step, sums.data(), to + start, step, width, last - first,
                      /*stream=*/false);  // whole rows one after the other: ordinary stores keep up
        }
      });
    }
  });
}

void CpuBackend::arg_reduce(bool largest, const Tensor& x, int dim, const Tensor& out) const {
  if (out.numel() == 0) {
    return;
  }
  const int64_t length = x.shape()[dim];
  const Tensor x_lines = line_starts(x, dim);
  const RowLoop<2> loop({&out, &x_lines});
  const auto lines = loop.row_strides();
  const int64_t step = byte_stride(x, dim);
  visit_compute_type(x.dtype(), [&](auto tag) {
    using T = decltype(tag);
    const ConvertRow load = convert_row(x.dtype(), dtype_of<T>);
    loop.run(
        [&](const std::array<char*, 2>& at, int64_t count) {
          if (side_by_side(lines[1], step, count)) {
            for (int64_t c = 0; c < count; c += kColumns) {
              arg_reduce_lines<T>(largest, at[1] + c * lines[1], lines[1], step, load, at[0] + c * lines[0], lines[0],
                                  std::min(kColumns, count - c), length);
            }
            return;
          }
          for (int64_t c = 0; c < count; ++c) {
            *reinterpret_cast<int64_t*>(at[0] + c * lines[0]) =
                arg_reduce_line<T>(largest, at[1] + c * lines[1], step, load, length);
          }
        },
        length, lines_per_piece(length));
  });
}

}  // namespace deltatape::cpu
