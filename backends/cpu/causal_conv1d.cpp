// Depthwise causal convolution over time, with segments. Rows over the channels are the vectors of all inner loops.
#include <algorithm>
#include <vector>

#include "backends/cpu/cpu_backend.h"
#include "backends/cpu/float_rows.h"
#include "backends/cpu/thread_split.h"
#include "backends/cpu/vector_loop.h"

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
  /// Elements from one row to the next.
  [[nodiscard]] int64_t row_stride() const { return row_stride_; }

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

// weight [D, W] as rows over the channels [W][D], the last weight first when `reversed`.
template <class T>
std::vector<ComputeType<T>> weight_rows(const Tensor& weight, Sizes size, bool reversed = false) {
  std::vector<ComputeType<T>> rows(static_cast<size_t>(size.width * size.channels));
  const auto* data = static_cast<const T*>(weight.raw());
  for (int64_t j = 0; j < size.width; ++j) {
    const int64_t tap = reversed ? size.width - 1 - j : j;
    load_row(data + tap * weight.strides()[1], weight.strides()[0], size.channels, rows.data() + j * size.channels);
  }
  return rows;
}

// sum[d] += w[d] x[d].
template <class C>
void add_product(int64_t channels, const C* w, const C* x, C* sum) {
  for_each_vector<C>(channels, [=](int64_t d, auto lanes) {
    lanes.store(fma(lanes.load(w + d), lanes.load(x + d), lanes.load(sum + d)), sum + d);
  });
}

// out[t][d] = bias[d] + w[0][d] x[t][d] + ... + w[3][d] x[t + 3][d] for t < steps: the width of all short convolutions,
// in one pass. Rows of x and out are `x_row` and `out_row` elements apart; `bias` may be null.
template <int64_t steps, class C>
void sums_of_four_products(int64_t channels, const C* w, const C* bias, const C* x, int64_t x_row, C* out,
                           int64_t out_row) {
  for_each_vector<C>(channels, [=](int64_t d, auto lanes) {
    Vec<C> weights[4];
    Vec<C> inputs[steps + 3];
    for (int64_t j = 0; j < 4; ++j) {
      weights[j] = lanes.load(w + j * channels + d);
    }
    for (int64_t i = 0; i < steps + 3; ++i) {
      inputs[i] = lanes.load(x + i * x_row + d);
    }
    for (int64_t i = 0; i < steps; ++i) {  // the rows that come next
      __builtin_prefetch(x + (steps + 3 + i) * x_row + d);
    }
    const Vec<C> start = bias == nullptr ? Vec<C>(0.0) : lanes.load(bias + d);
    for (int64_t t = 0; t < steps; ++t) {
      Vec<C> sum = start;
      for (int64_t j = 0; j < 4; ++j) {
        sum = fma(weights[j], inputs[t + j], sum);
      }
      lanes.store(sum, out + t * out_row + d);
    }
  });
}

// sums[j][d] += dy[0][d] x[j][d] + ... + dy[3][d] x[j + 3][d] for j < 4: the gradient of the weights of width 4 from
// four time steps. Rows of dy and x are `dy_row` and `x_row` elements apart.
template <class C>
void add_four_steps(int64_t channels, const C* dy, int64_t dy_row, const C* x, int64_t x_row, C* sums) {
  for_each_vector<C>(channels, [=](int64_t d, auto lanes) {
    Vec<C> upstream[4];
    Vec<C> inputs[7];
    for (int64_t i = 0; i < 4; ++i) {
      upstream[i] = lanes.load(dy + i * dy_row + d);
    }
    for (int64_t i = 0; i < 7; ++i) {
      inputs[i] = lanes.load(x + i * x_row + d);
    }
    for (int64_t i = 7; i < 11; ++i) {  // the rows that come next
      __builtin_prefetch(x + i * x_row + d);
    }
    for (int64_t j = 0; j < 4; ++j) {
      C* sum = sums + j * channels + d;
      Vec<C> value = lanes.load(sum);
      for (int64_t i = 0; i < 4; ++i) {
        value = fma(upstream[i], inputs[j + i], value);
      }
      lanes.store(value, sum);
    }
  });
}

constexpr int64_t kTimeBlock = 64;

template <class T>
void forward(Sizes size, const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& start_tensor,
             const Tensor& out) {
  using C = ComputeType<T>;
  const Starts starts(start_tensor);
  const std::vector<C> weights = weight_rows<T>(weight, size);
  std::vector<C> biases(static_cast<size_t>(bias.defined() ? size.channels : 0));
  if (bias.defined()) {
    load_row(static_cast<const T*>(bias.raw()), bias.strides()[0], size.channels, biases.data());
  }
  const C* bias_row = bias.defined() ? biases.data() : nullptr;
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
    int64_t t = first;
    while (t < last) {
      T* place = out_data + (entry * size.time + t) * size.channels;
      if constexpr (kIsComputeType<T>) {
        if (size.width == 4 && t >= 3 && t + 4 <= last && starts.at(entry, t + 3) <= t - 3) {
          sums_of_four_products<4>(size.channels, weights.data(), bias_row, rows.row(t - 3), rows.row_stride(), place,
                                   size.channels);
          t += 4;
          continue;
        }
      }
      C* sum = row.data();
      if constexpr (kIsComputeType<T>) {
        sum = place;
      }
      const int64_t oldest = t - size.width + 1;
      const int64_t from = std::max(oldest, starts.at(entry, t));
      if (size.width == 4 && from == oldest) {
        sums_of_four_products<1>(size.channels, weights.data(), bias_row, rows.row(oldest), rows.row_stride(), sum,
                                 size.channels);
      } else {
        bias.defined() ? std::copy(biases.begin(), biases.end(), sum) : std::fill_n(sum, size.channels, C(0));
        for (int64_t s = from; s <= t; ++s) {
          add_product(size.channels, weights.data() + (s - oldest) * size.channels, rows.row(s), sum);
        }
      }
      if constexpr (!kIsComputeType<T>) {
        store_row(sum, size.channels, place);
      }
      ++t;
    }
  });
}

// dx[b,t,d] = sum_j weight[d,j] dy[b, t+W-1-j, d] over the outputs that x[b,t,d] entered, for t in [first, last).
// `reversed` [W][D] has the last weight first, which makes this the same sum as the forward one.
template <class T>
void backward_x(Sizes size, const ComputeType<T>* reversed, const Starts& starts, const Tensor& dy, int64_t entry,
                int64_t first, int64_t last, T* dx) {
  using C = ComputeType<T>;
  const int64_t future = std::min(size.time, last + size.width - 1);
  const TimeRows<T> rows(dy, entry, first, future - first);
  Scratch<C> row(kIsComputeType<T> ? 0 : size.channels);
  int64_t t = first;
  while (t < last) {
    T* place = dx + (entry * size.time + t) * size.channels;
    C* sum = row.data();
    if constexpr (kIsComputeType<T>) {
      sum = place;
      if (size.width == 4 && t + 4 <= last && t + 6 < size.time && starts.at(entry, t + 6) <= t) {
        sums_of_four_products<4, C>(size.channels, reversed, nullptr, rows.row(t), rows.row_stride(), sum,
                                    size.channels);
        t += 4;
        continue;
      }
    }
    if (size.width == 4 && t + 3 < size.time && starts.at(entry, t + 3) <= t) {
      sums_of_four_products<1, C>(size.channels, reversed, nullptr, rows.row(t), rows.row_stride(), sum, size.channels);
    } else {
      std::fill_n(sum, size.channels, C(0));
      for (int64_t s = t; s < std::min(size.time, t + size.width); ++s) {
        if (starts.at(entry, s) <= t) {
          add_product(size.channels, reversed + (s - t) * size.channels, rows.row(s), sum);
        }
      }
    }
    if constexpr (!kIsComputeType<T>) {
      store_row(sum, size.channels, place);
    }
    ++t;
  }
}

// sums[j][d] += dy[b,t,d] x[b, t-W+1+j, d] over t in [first, last).
template <class T>
void backward_weight(Sizes size, const Tensor& x, const Starts& starts, const Tensor& dy, int64_t entry, int64_t first,
                     int64_t last, ComputeType<T>* sums) {
  const int64_t history = std::max<int64_t>(0, first - size.width + 1);
  const TimeRows<T> x_rows(x, entry, history, last - history);
  const TimeRows<T> dy_rows(dy, entry, first, last - first);
  int64_t t = first;
  while (t < last) {
    if (size.width == 4 && t + 4 <= last && t >= 3 && starts.at(entry, t + 3) <= t - 3) {
      add_four_steps(size.channels, dy_rows.row(t), dy_rows.row_stride(), x_rows.row(t - 3), x_rows.row_stride(), sums);
      t += 4;
      continue;
    }
    const int64_t oldest = t - size.width + 1;
    for (int64_t s = std::max(oldest, starts.at(entry, t)); s <= t; ++s) {
      add_product(size.channels, dy_rows.row(t), x_rows.row(s), sums + (s - oldest) * size.channels);
    }
    ++t;
  }
}

// Adds up the blocks' shares [blocks][W][D] of dweight [D, W], in f64.
template <class T>
void add_blocks(Sizes size, const std::vector<ComputeType<T>>& partial, const Tensor& dweight) {
  constexpr int64_t kChannels = 256;
  const int64_t row_count = size.width * size.channels;
  const int64_t blocks = static_cast<int64_t>(partial.size()) / row_count;
  const int64_t parts = ceil_div(size.channels, kChannels);
  auto* out = static_cast<T*>(dweight.mutable_raw());
  parallel_for(size.width * parts, static_cast<double>(blocks * kChannels) * 0.3, [&](int64_t task) {
    const int64_t j = task / parts;
    const int64_t first = task % parts * kChannels;
    const int64_t count = std::min(kChannels, size.channels - first);
    double sums[kChannels] = {};
    for (int64_t block = 0; block < blocks; ++block) {
      const ComputeType<T>* terms = partial.data() + block * row_count + j * size.channels + first;
      for (int64_t d = 0; d < count; ++d) {
        sums[d] += static_cast<double>(terms[d]);
      }
    }
    for (int64_t d = 0; d < count; ++d) {
      out[(first + d) * size.width + j] = T(static_cast<ComputeType<T>>(sums[d]));
    }
  });
}

// Both gradients, a block of time at a time, so that dy is in the cache when the second looks at it. dweight is summed
// up in f32 over a block.
template <class T>
void backward(Sizes size, const Tensor& x, const Tensor& weight, const Starts& starts, const Tensor& dy,
              const Tensor& dx, const Tensor& dweight) {
  using C = ComputeType<T>;
  const bool want_dx = dx.defined() && dx.numel() > 0;
  const bool want_dweight = dweight.defined() && dweight.numel() > 0;
  std::vector<C> reversed;
  if (want_dx) {
    reversed = weight_rows<T>(weight, size, true);
  }
  const int64_t blocks = ceil_div(size.time, kTimeBlock);
  const int64_t row_count = size.width * size.channels;
  std::vector<C> partial(static_cast<size_t>(want_dweight ? size.batch * blocks * row_count : 0), C(0));
  const double nanoseconds = static_cast<double>(kTimeBlock * row_count) * 0.2;
  parallel_for(size.batch * blocks, nanoseconds, [&](int64_t task) {
    const int64_t entry = task / blocks;
    const int64_t first = task % blocks * kTimeBlock;
    const int64_t last = std::min(size.time, first + kTimeBlock);
    if (want_dx) {
      backward_x<T>(size, reversed.data(), starts, dy, entry, first, last, static_cast<T*>(dx.mutable_raw()));
    }
    if (want_dweight) {
      backward_weight<T>(size, x, starts, dy, entry, first, last, partial.data() + task * row_count);
    }
  });
  if (want_dweight) {
    add_blocks<T>(size, partial, dweight);
  }
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
    backward<T>(sizes_of(dy, weight), x, weight, Starts(starts), dy, dx, dweight);
  });
}

}  // namespace deltatape::cpu
