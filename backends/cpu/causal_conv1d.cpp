// Depthwise causal convolution over time, with segments. Rows over the channels are the vectors of all inner loops.
#include <algorithm>
#include <vector>

#include "backends/cpu/cpu_backend.h"
#include "backends/cpu/float_rows.h"
#include "backends/cpu/thread_split.h"

namespace deltatape::cpu {
namespace {

// Consecutive time steps of one batch entry, as rows of the type that is computed in: the tensor's own memory where
// that is possible, else a converted copy.
template <class T>
class TimeRows {
 public:
  using C = ComputeType<T>;

  TimeRows(const Tensor& x, int64_t entry, int64_t first, int64_t count)
      : channels_(x.shape()[2]),
        in_place_(kIsComputeType<T> && (x.strides()[2] == 1 || channels_ == 1)),
        first_(first),
        copy_(in_place_ ? 0 : count * channels_) {
    const T* data = static_cast<const T*>(x.raw()) + entry * x.strides()[0] + first * x.strides()[1];
    row_stride_ = in_place_ ? x.strides()[1] : channels_;
    if constexpr (kIsComputeType<T>) {
      rows_ = data;
    }
    if (!in_place_) {
      for (int64_t t = 0; t < count; ++t) {
        load_row(data + t * x.strides()[1], x.strides()[2], channels_, copy_.data() + t * channels_);
      }
      rows_ = copy_.data();
    }
  }
  [[nodiscard]] const C* row(int64_t t) const { return rows_ + (t - first_) * row_stride_; }

 private:
  int64_t channels_;
  bool in_place_;
  int64_t first_;
  Scratch<C> copy_;
  const C* rows_ = nullptr;
  int64_t row_stride_ = 0;
};

struct Sizes {
  int64_t batch;
  int64_t time;
  int64_t channels;
  int64_t width;
};

// Start of each position's segment.
class Starts {
 public:
  explicit Starts(const Tensor& starts) : data_(starts.defined() ? starts.data<int64_t>() : nullptr) {
    if (starts.defined()) {
      batch_stride_ = starts.strides()[0];
      time_stride_ = starts.strides()[1];
    }
  }
  [[nodiscard]] int64_t at(int64_t entry, int64_t t) const {
    return data_ == nullptr ? 0 : data_[entry * batch_stride_ + t * time_stride_];
  }

 private:
  const int64_t* data_;
  int64_t batch_stride_ = 0;
  int64_t time_stride_ = 0;
};

// weight [D, W] as rows over the channels [W][D].
template <class T>
std::vector<ComputeType<T>> weight_rows(const Tensor& weight, Sizes size) {
  std::vector<ComputeType<T>> rows(static_cast<size_t>(size.width * size.channels));
  const auto* data = static_cast<const T*>(weight.raw());
  for (int64_t j = 0; j < size.width; ++j) {
    load_row(data + j * weight.strides()[1], weight.strides()[0], size.channels, rows.data() + j * size.channels);
  }
  return rows;
}

// sum[d] += w[d] x[d].
template <class C>
void add_product(int64_t channels, const C* w, const C* x, C* sum) {
  for (int64_t d = 0; d < channels; ++d) {
    sum[d] += w[d] * x[d];
  }
}

// sum[d] += w0[d] x0[d] + ... + w3[d] x3[d]: the width of all short convolutions, in one pass over `sum`.
template <class C>
void add_four_products(int64_t channels, const C* w, const C* x0, const C* x1, const C* x2, const C* x3, C* sum) {
  const C* w0 = w;
  const C* w1 = w0 + channels;
  const C* w2 = w1 + channels;
  const C* w3 = w2 + channels;
  for (int64_t d = 0; d < channels; ++d) {
    sum[d] = (((sum[d] + w0[d] * x0[d]) + w1[d] * x1[d]) + w2[d] * x2[d]) + w3[d] * x3[d];
  }
}

constexpr int64_t kTimeBlock = 64;

template <class T>
void forward(Sizes size, const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& start_tensor,
             const Tensor& out) {
  using C = ComputeType<T>;
  const Starts starts(start_tensor);
  const std::vector<C> weights = weight_rows<T>(weight, size);
  std::vector<C> biases(static_cast<size_t>(size.channels), C(0));
  if (bias.defined()) {
    load_row(static_cast<const T*>(bias.raw()), bias.strides()[0], size.channels, biases.data());
  }
  auto* out_data = static_cast<T*>(out.mutable_raw());
  const int64_t blocks = ceil_div(size.time, kTimeBlock);
  const double nanoseconds = static_cast<double>(kTimeBlock * size.channels * (size.width + 1)) * 0.1;
  parallel_for(size.batch * blocks, nanoseconds, [&](int64_t task) {
    const int64_t entry = task / blocks;
    const int64_t first = task % blocks * kTimeBlock;
    const int64_t last = std::min(size.time, first + kTimeBlock);
    const int64_t history = std::max<int64_t>(0, first - size.width + 1);
    const TimeRows<T> rows(x, entry, history, last - history);
    Scratch<C> row(kIsComputeType<T> ? 0 : size.channels);
    for (int64_t t = first; t < last; ++t) {
      T* place = out_data + (entry * size.time + t) * size.channels;
      C* sum = row.data();
      if constexpr (kIsComputeType<T>) {
        sum = place;
      }
      std::copy(biases.begin(), biases.end(), sum);
      const int64_t oldest = t - size.width + 1;
      const int64_t from = std::max(oldest, starts.at(entry, t));
      if (size.width == 4 && from == oldest) {
        add_four_products(size.channels, weights.data(), rows.row(t - 3), rows.row(t - 2), rows.row(t - 1), rows.row(t),
                          sum);
      } else {
        for (int64_t s = from; s <= t; ++s) {
          add_product(size.channels, weights.data() + (s - oldest) * size.channels, rows.row(s), sum);
        }
      }
      if constexpr (!kIsComputeType<T>) {
        store_row(sum, size.channels, place);
      }
    }
  });
}

// dx[b,t,d] = sum_j weight[d,j] dy[b, t+W-1-j, d] over the outputs that x[b,t,d] entered.
template <class T>
void backward_x(Sizes size, const Tensor& weight, const Starts& starts, const Tensor& dy, const Tensor& dx) {
  using C = ComputeType<T>;
  const std::vector<C> weights = weight_rows<T>(weight, size);
  auto* dx_data = static_cast<T*>(dx.mutable_raw());
  const int64_t blocks = ceil_div(size.time, kTimeBlock);
  const double nanoseconds = static_cast<double>(kTimeBlock * size.channels * (size.width + 1)) * 0.1;
  parallel_for(size.batch * blocks, nanoseconds, [&](int64_t task) {
    const int64_t entry = task / blocks;
    const int64_t first = task % blocks * kTimeBlock;
    const int64_t last = std::min(size.time, first + kTimeBlock);
    const int64_t future = std::min(size.time, last + size.width - 1);
    const TimeRows<T> rows(dy, entry, first, future - first);
    Scratch<C> row(kIsComputeType<T> ? 0 : size.channels);
    for (int64_t t = first; t < last; ++t) {
      T* place = dx_data + (entry * size.time + t) * size.channels;
      C* sum = row.data();
      if constexpr (kIsComputeType<T>) {
        sum = place;
      }
      std::fill_n(sum, size.channels, C(0));
      for (int64_t s = t; s < std::min(size.time, t + size.width); ++s) {
        if (starts.at(entry, s) <= t) {
          add_product(size.channels, weights.data() + (size.width - 1 - (s - t)) * size.channels, rows.row(s), sum);
        }
      }
      if constexpr (!kIsComputeType<T>) {
        store_row(sum, size.channels, place);
      }
    }
  });
}

// dweight[d,j] = sum_{b,t} dy[b,t,d] x[b, t-W+1+j, d]: f32 sums over blocks of time, which are added in f64.
template <class T>
void backward_weight(Sizes size, const Tensor& x, const Starts& starts, const Tensor& dy, const Tensor& dweight) {
  using C = ComputeType<T>;
  const int64_t blocks = ceil_div(size.time, kTimeBlock);
  const int64_t row_count = size.width * size.channels;
  std::vector<C> partial(static_cast<size_t>(size.batch * blocks * row_count), C(0));
  const double nanoseconds = static_cast<double>(kTimeBlock * row_count) * 0.2;
  parallel_for(size.batch * blocks, nanoseconds, [&](int64_t task) {
    const int64_t entry = task / blocks;
    const int64_t first = task % blocks * kTimeBlock;
    const int64_t last = std::min(size.time, first + kTimeBlock);
    const int64_t history = std::max<int64_t>(0, first - size.width + 1);
    const TimeRows<T> x_rows(x, entry, history, last - history);
    const TimeRows<T> dy_rows(dy, entry, first, last - first);
    C* sums = partial.data() + task * row_count;
    for (int64_t t = first; t < last; ++t) {
      const int64_t oldest = t - size.width + 1;
      for (int64_t s = std::max(oldest, starts.at(entry, t)); s <= t; ++s) {
        add_product(size.channels, dy_rows.row(t), x_rows.row(s), sums + (s - oldest) * size.channels);
      }
    }
  });
  auto* out = static_cast<T*>(dweight.mutable_raw());
  parallel_for(size.channels, static_cast<double>(size.width * size.batch * blocks), [&](int64_t d) {
    for (int64_t j = 0; j < size.width; ++j) {
      double sum = 0;
      for (int64_t block = 0; block < size.batch * blocks; ++block) {
        sum += static_cast<double>(partial[static_cast<size_t>(block * row_count + j * size.channels + d)]);
      }
      out[d * size.width + j] = T(static_cast<C>(sum));
    }
  });
}

Sizes sizes_of(const Tensor& x, const Tensor& weight) {
  return {x.shape()[0], x.shape()[1], x.shape()[2], weight.shape()[1]};
}

}  // namespace

void CpuBackend::causal_conv1d(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& starts,
                               const Tensor& out) const {
  if (out.numel() == 0) {
    return;
  }
  visit_floating(out.dtype(),
                 [&](auto tag) { forward<decltype(tag)>(sizes_of(x, weight), x, weight, bias, starts, out); });
}

void CpuBackend::causal_conv1d_backward(const Tensor& x, const Tensor& weight, const Tensor& starts, const Tensor& dy,
                                        const Tensor& dx, const Tensor& dweight) const {
  visit_floating(dy.dtype(), [&](auto tag) {
    using T = decltype(tag);
    const Starts segment_starts(starts);
    if (dx.defined() && dx.numel() > 0) {
      backward_x<T>(sizes_of(dy, weight), weight, segment_starts, dy, dx);
    }
    if (dweight.defined() && dweight.numel() > 0) {
      backward_weight<T>(sizes_of(dy, weight), x, segment_starts, dy, dweight);
    }
  });
}

}  // namespace deltatape::cpu
