// Softmax and log-softmax over the last dimension, and their gradients.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "backends/cpu/cpu_backend.h"
#include "backends/cpu/lines.h"
#include "backends/cpu/map_rows.h"
#include "backends/cpu/row_loop.h"
#include "backends/cpu/row_sums.h"

namespace deltatape::cpu {
namespace {

/// Largest element, NaN left out (exp(x - max) brings it back).
template <class T>
T max_of_row(const T* x, int64_t count) {
  using V = Vec<T>;
  constexpr int64_t kStep = 4 * V::kSize;
  constexpr T kLowest = -std::numeric_limits<T>::infinity();
  const auto larger = [](V best, V value) { return select(value > best, value, best); };
  V best[4] = {V(double{kLowest}), V(double{kLowest}), V(double{kLowest}), V(double{kLowest})};
  int64_t i = 0;
  for (; i + kStep <= count; i += kStep) {
    for (int64_t k = 0; k < 4; ++k) {
      best[k] = larger(best[k], V::load(x + i + k * V::kSize));
    }
  }
  for (; i + V::kSize <= count; i += V::kSize) {
    best[0] = larger(best[0], V::load(x + i));
  }
  alignas(64) T lanes[static_cast<size_t>(V::kSize)];
  larger(larger(best[0], best[1]), larger(best[2], best[3])).store(lanes);
  T largest = kLowest;
  for (const T lane : lanes) {
    largest = lane > largest ? lane : largest;
  }
  for (; i < count; ++i) {
    largest = x[i] > largest ? x[i] : largest;
  }
  return largest;
}

/// y = exp(x - largest); returns the sum, added up as sum_row does.
template <class T>
double exp_row(const T* x, Vec<T> largest, T* y, int64_t count) {
  using V = Vec<T>;
  constexpr int64_t kBlock = 512;
  double total = 0.0;
  for (int64_t first = 0; first < count; first += kBlock) {
    const int64_t last = std::min(count, first + kBlock);
    V sums[2] = {V(0.0), V(0.0)};
    int64_t i = first;
    for (; i + 2 * V::kSize <= last; i += 2 * V::kSize) {
      const V a = exp(V::load(x + i) - largest);
      const V b = exp(V::load(x + i + V::kSize) - largest);
      a.store(y + i);
      b.store(y + i + V::kSize);
      sums[0] = sums[0] + a;
      sums[1] = sums[1] + b;
    }
    for (; i < last; i += V::kSize) {
      const int64_t rest = std::min(V::kSize, last - i);
      if (rest == V::kSize) {
        const V a = exp(V::load(x + i) - largest);
        a.store(y + i);
        sums[0] = sums[0] + a;
      } else {
        exp(V::load_part(x + i, rest) - largest).store_part(y + i, rest);
        sums[1] = sums[1] + V::load_part(y + i, rest);
      }
    }
    total += sum_of_lanes(sums[0] + sums[1]);
  }
  return total;
}

template <class T>
void softmax_row(const T* x, T* y, int64_t count) {
  using V = Vec<T>;
  const double sum = exp_row(x, V(static_cast<double>(max_of_row(x, count))), y, count);
  const V scale(1.0 / sum);
  map_row([scale](V value) { return value * scale; }, RowView<T>{y, 1}, y, count);
}

template <class T>
void log_softmax_row(const T* x, T* y, int64_t count) {
  using V = Vec<T>;
  const V largest(static_cast<double>(max_of_row(x, count)));
  const V log_sum(std::log(exp_row(x, largest, y, count)));
  map_row([largest, log_sum](V value) { return (value - largest) - log_sum; }, RowView<T>{x, 1}, y, count);
}

template <class T>
void softmax_backward_row(const T* y, const T* dy, bool log, T* dx, int64_t count) {
  using V = Vec<T>;
  if (log) {
    const V sum(sum_row<T>([](V value) { return value; }, count, dy));
    map_row([sum](V out, V gradient) { return gradient - exp(out) * sum; }, RowView<T>{y, 1}, RowView<T>{dy, 1}, dx,
            count);
  } else {
    const V sum(sum_row<T>([](V out, V gradient) { return out * gradient; }, count, y, dy));
    map_row([sum](V out, V gradient) { return out * (gradient - sum); }, RowView<T>{y, 1}, RowView<T>{dy, 1}, dx,
            count);
  }
}

/// Lines per share: some 16 Ki elements.
int64_t lines_per_piece(int64_t length) { return std::max<int64_t>(1, 16384 / std::max<int64_t>(1, length)); }

template <class F>
void visit_float_compute_type(DType dtype, F&& f) {
  dtype == DType::f64 ? f(double{}) : f(float{});
}

}  // namespace

void CpuBackend::softmax(const Tensor& x, bool log, const Tensor& out) const {
  if (out.numel() == 0) {
    return;
  }
  const int last = x.rank() - 1;
  const int64_t length = x.shape()[last];
  const Tensor x_lines = line_starts(x, last);
  const Tensor out_lines = line_starts(out, last);
  const RowLoop<2> loop({&out_lines, &x_lines});
  const auto steps = loop.row_strides();
  visit_float_compute_type(x.dtype(), [&](auto tag) {
    using T = decltype(tag);
    const auto row = log ? &log_softmax_row<T> : &softmax_row<T>;
    loop.run(
        [&](const std::array<char*, 2>& at, int64_t count) {
          LineReader<T> reader(x.dtype(), byte_stride(x, last), length);
          LineWriter<T> writer(out.dtype(), byte_stride(out, last), length);
          for (int64_t i = 0; i < count; ++i) {
            char* to = at[0] + i * steps[0];
            row(reader.read(at[1] + i * steps[1]), writer.begin(to), length);
            writer.finish(to);
          }
        },
        length, lines_per_piece(length));
  });
}

void CpuBackend::softmax_backward(const Tensor& y, const Tensor& dy, bool log, const Tensor& out) const {
  if (out.numel() == 0) {
    return;
  }
  const int last = y.rank() - 1;
  const int64_t length = y.shape()[last];
  const Tensor y_lines = line_starts(y, last);
  const Tensor dy_lines = line_starts(dy, last);
  const Tensor out_lines = line_starts(out, last);
  const RowLoop<3> loop({&out_lines, &y_lines, &dy_lines});
  const auto steps = loop.row_strides();
  visit_float_compute_type(y.dtype(), [&](auto tag) {
    using T = decltype(tag);
    loop.run(
        [&](const std::array<char*, 3>& at, int64_t count) {
          LineReader<T> y_reader(y.dtype(), byte_stride(y, last), length);
          LineReader<T> dy_reader(dy.dtype(), byte_stride(dy, last), length);
          LineWriter<T> writer(out.dtype(), byte_stride(out, last), length);
          for (int64_t i = 0; i < count; ++i) {
            char* to = at[0] + i * steps[0];
            softmax_backward_row(y_reader.read(at[1] + i * steps[1]), dy_reader.read(at[2] + i * steps[2]), log,
                                 writer.begin(to), length);
            writer.finish(to);
          }
        },
        length, lines_per_piece(length));
  });
}

}  // namespace deltatape::cpu
