// Softmax and log-softmax over the last dimension, and their gradients.
#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "backends/cpu/cpu_backend.h"
#include "backends/cpu/lines.h"
#include "backends/cpu/map_rows.h"
#include "backends/cpu/row_loop.h"
#include "backends/cpu/row_sums.h"
#include "backends/cpu/softmax_rows.h"
#include "backends/cpu/stream_store.h"

namespace deltatape::cpu {
namespace {

template <class T>
void softmax_row(const T* x, T* y, int64_t count, const T* ahead) {
  using V = Vec<T>;
  const double sum = exp_row(x, V(static_cast<double>(max_of_row(x, count))), y, count, ahead);
  const V scale(1.0 / sum);
  map_row([scale](V value) { return value * scale; }, RowView<T>{y, 1}, y, count);
}

template <class T>
void log_softmax_row(const T* x, T* y, int64_t count, const T* ahead) {
  using V = Vec<T>;
  const V largest(static_cast<double>(max_of_row(x, count)));
  const V log_sum(std::log(exp_row(x, largest, y, count, ahead)));
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
    const int64_t bytes = length * static_cast<int64_t>(sizeof(T));
    const bool stream = out.dtype() == dtype_of<T> && out.numel() * static_cast<int64_t>(sizeof(T)) >= kStreamBytes;
    loop.run(
        [&](const std::array<char*, 2>& at, int64_t count) {
          LineReader<T> reader(x.dtype(), byte_stride(x, last), length);
          LineWriter<T> writer(out.dtype(), byte_stride(out, last), length);
          std::vector<T> result(static_cast<size_t>(stream ? length : 0));
          for (int64_t i = 0; i < count; ++i) {
            char* to = at[0] + i * steps[0];
            const auto* ahead = reinterpret_cast<const T*>(at[1] + std::min(i + 1, count - 1) * steps[1]);
            row(reader.read(at[1] + i * steps[1]), stream ? result.data() : writer.begin(to), length, ahead);
            if (stream) {
              stream_store(to, result.data(), bytes);
            } else {
              writer.finish(to);
            }
          }
          if (stream) {
            end_of_stream();
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
