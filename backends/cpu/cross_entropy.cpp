// Cross entropy with class indices as targets, and its gradient: each row is read from memory once.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "backends/cpu/cpu_backend.h"
#include "backends/cpu/lines.h"
#include "backends/cpu/map_rows.h"
#include "backends/cpu/softmax_rows.h"
#include "backends/cpu/stream_store.h"
#include "backends/cpu/thread_split.h"

namespace deltatape::cpu {
namespace {

/// Bytes from one row of a matrix to the next.
int64_t row_step(const Tensor& x) { return byte_stride(x, 0); }

template <class T>
void forward(const Tensor& logits, const Tensor& target, const Tensor& terms, const Tensor& largest,
             const Tensor& sum) {
  const int64_t rows = logits.shape()[0];
  const int64_t classes = logits.shape()[1];
  const auto* from = static_cast<const char*>(logits.raw());
  const int64_t* place = target.data<int64_t>();
  auto* term_of = static_cast<T*>(terms.mutable_raw());
  auto* largest_of = static_cast<T*>(largest.mutable_raw());
  auto* sum_of = static_cast<T*>(sum.mutable_raw());
  parallel_ranges(rows, rows * classes, [&](int64_t begin, int64_t end) {
    LineReader<T> reader(logits.dtype(), byte_stride(logits, 1), classes);
    for (int64_t row = begin; row < end; ++row) {
      const T* x = reader.read(from + row * row_step(logits));
      const RowExponentials<T> all = exponentials_of_row(x, classes);
      largest_of[row] = all.largest;
      sum_of[row] = static_cast<T>(all.sum);
      term_of[row] = static_cast<T>(std::log(all.sum)) - (x[place[row]] - all.largest);
    }
  });
}

template <class T>
void backward(const Tensor& logits, const Tensor& target, const Tensor& largest, const Tensor& sum,
              const Tensor& weight, const Tensor& out) {
  using V = Vec<T>;
  const int64_t rows = logits.shape()[0];
  const int64_t classes = logits.shape()[1];
  const auto* from = static_cast<const char*>(logits.raw());
  const int64_t* place = target.data<int64_t>();
  const T* largest_of = largest.data<T>();
  const T* sum_of = sum.data<T>();
  const T* weight_of = weight.data<T>();
  auto* to = static_cast<char*>(out.mutable_raw());
  const bool same = out.dtype() == dtype_of<T>;
  const bool stream = same && out.numel() * static_cast<int64_t>(sizeof(T)) >= kStreamBytes;
  constexpr int64_t kBlock = 1024;
  const auto size = static_cast<int64_t>(size_of(out.dtype()));
  const ConvertRow store = convert_row(dtype_of<T>, out.dtype());
  parallel_ranges(rows, rows * classes, [&](int64_t begin, int64_t end) {
    LineReader<T> reader(logits.dtype(), byte_stride(logits, 1), classes);
    alignas(64) T results[static_cast<size_t>(kBlock)];
    for (int64_t row = begin; row < end; ++row) {
      char* line = to + row * classes * size;
      if (weight_of[row] == T(0)) {  // also where logits are NaN
        std::memset(line, 0, static_cast<size_t>(classes * size));
        continue;
      }
      const T* x = reader.read(from + row * row_step(logits));
      const V top(static_cast<double>(largest_of[row]));
      const V scale(static_cast<double>(weight_of[row]) / static_cast<double>(sum_of[row]));
      for (int64_t first = 0; first < classes; first += kBlock) {
        const int64_t count = std::min(kBlock, classes - first);
        T* block = same && !stream ? reinterpret_cast<T*>(line) + first : results;
        map_row([=](V value) { return exp(value - top) * scale; }, RowView<T>{x + first, 1}, block, count);
        if (place[row] >= first && place[row] < first + count) {
          block[place[row] - first] -= weight_of[row];
        }
        if (stream) {
          stream_store(line + first * size, results, count * size);
        } else if (!same) {
          store(reinterpret_cast<const char*>(results), sizeof(T), line + first * size, size, count);
        }
      }
    }
    if (stream) {
      end_of_stream();
    }
  });
}

}  // namespace

void CpuBackend::cross_entropy(const Tensor& logits, const Tensor& target, const Tensor& terms, const Tensor& largest,
                               const Tensor& sum) const {
  terms.dtype() == DType::f64 ? forward<double>(logits, target, terms, largest, sum)
                              : forward<float>(logits, target, terms, largest, sum);
}

void CpuBackend::cross_entropy_backward(const Tensor& logits, const Tensor& target, const Tensor& largest,
                                        const Tensor& sum, const Tensor& weight, const Tensor& out) const {
  weight.dtype() == DType::f64 ? backward<double>(logits, target, largest, sum, weight, out)
                               : backward<float>(logits, target, largest, sum, weight, out);
}

}  // namespace deltatape::cpu
