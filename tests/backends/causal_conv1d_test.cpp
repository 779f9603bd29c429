// The causal convolution and its gradients against plain loops in f64.
#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "backends/backend.h"
#include "tests/backends/layouts.h"

using namespace deltatape;
using namespace deltatape::test;

namespace {

struct Case {
  int64_t batch;
  int64_t time;
  int64_t channels;
  int64_t width;
};

// All values in f64, and the loops of the definition.
class Reference {
 public:
  Reference(Case size, const Tensor& weight, const Tensor& starts) : size_(size), weight_(weight.to_vector<double>()) {
    if (starts.defined()) {
      starts_ = starts.to_vector<int64_t>();
    }
  }

  /// Calls visit(index of x[b,s,d] in x, index of weight[d,j], index of y[b,t,d]) for every product of the convolution.
  template <class F>
  void for_each_term(F&& visit) const {
    for (int64_t b = 0; b < size_.batch; ++b) {
      for (int64_t t = 0; t < size_.time; ++t) {
        for (int64_t j = 0; j < size_.width; ++j) {
          const int64_t s = t - size_.width + 1 + j;
          if (s < 0 || (!starts_.empty() && s < starts_[static_cast<size_t>(b * size_.time + t)])) {
            continue;
          }
          for (int64_t d = 0; d < size_.channels; ++d) {
            visit(at(b, s, d), static_cast<size_t>(d * size_.width + j), at(b, t, d));
          }
        }
      }
    }
  }
  [[nodiscard]] const std::vector<double>& weight() const { return weight_; }

 private:
  [[nodiscard]] size_t at(int64_t b, int64_t t, int64_t d) const {
    return static_cast<size_t>((b * size_.time + t) * size_.channels + d);
  }

  Case size_;
  std::vector<double> weight_;
  std::vector<int64_t> starts_;
};

// Sums of `terms` products of numbers below 1, rounded to the dtype.
void check_close(const Tensor& actual, const std::vector<double>& expected, int64_t terms) {
  const std::vector<double> values = actual.to_vector<double>();
  const double sum_epsilon = actual.dtype() == DType::f64 ? 0x1p-53 : 0x1p-24;
  double worst = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const double limit = 2 * static_cast<double>(terms + 1) * sum_epsilon +
                         1.01 * epsilon_of(actual.dtype()) * (0.01 + std::abs(expected[i]));
    const double share = std::abs(values[i] - expected[i]) / limit;
    if (!(share <= worst)) {
      worst = std::isnan(share) ? std::numeric_limits<double>::infinity() : share;
    }
  }
  CHECK(worst <= 1.0);
}

// Segments of uneven lengths, one of them a single step.
Tensor segment_starts(Case size, Layout layout) {
  const Tensor starts = in_layout({size.batch, size.time}, DType::i64, layout);
  set_values(starts, [](const Shape& index) {
    const int64_t t = index[1];
    return static_cast<double>(t < 3 ? 0 : t == 3 ? 3 : t < 11 ? 4 : 11);
  });
  return starts;
}

void check_case(Case size, DType dtype, Layout layout, bool segments, bool with_bias, Generator& generator) {
  CAPTURE(to_string(dtype));
  CAPTURE(layout);
  CAPTURE(segments);
  CAPTURE(size.time);
  CAPTURE(size.width);
  const Shape shape{size.batch, size.time, size.channels};
  const Tensor x = random_values(shape, dtype, layout, generator);
  const Tensor dy = random_values(shape, dtype, layout, generator);
  const Tensor weight = random_values({size.channels, size.width}, dtype, layout, generator);
  const Tensor bias = with_bias ? random_values({size.channels}, dtype, layout, generator) : Tensor();
  const Tensor starts = segments ? segment_starts(size, layout == Layout::flat ? Layout::repeated : layout) : Tensor();
  const Reference reference(size, weight, starts);
  const std::vector<double> x_values = x.to_vector<double>();
  const std::vector<double> dy_values = dy.to_vector<double>();
  const auto count = static_cast<size_t>(x.numel());

  std::vector<double> y(count, 0.0);
  if (with_bias) {
    const std::vector<double> bias_values = bias.to_vector<double>();
    for (size_t i = 0; i < count; ++i) {
      y[i] = bias_values[i % static_cast<size_t>(size.channels)];
    }
  }
  std::vector<double> dx(count, 0.0);
  std::vector<double> dweight(static_cast<size_t>(size.channels * size.width), 0.0);
  reference.for_each_term([&](size_t from, size_t w, size_t to) {
    y[to] += reference.weight()[w] * x_values[from];
    dx[from] += reference.weight()[w] * dy_values[to];
    dweight[w] += x_values[from] * dy_values[to];
  });

  const Tensor out = empty(shape, dtype);
  backend_of(out).causal_conv1d(x, weight, bias, starts, out);
  check_close(out, y, size.width);
  const Tensor dx_out = empty(shape, dtype);
  const Tensor dweight_out = empty(weight.shape(), dtype);
  backend_of(out).causal_conv1d_backward(x, weight, starts, dy, dx_out, dweight_out);
  check_close(dx_out, dx, size.width);
  check_close(dweight_out, dweight, size.batch * size.time);
  const Tensor dx_alone = empty(shape, dtype);
  backend_of(out).causal_conv1d_backward(x, weight, starts, dy, dx_alone, Tensor());
  CHECK(dx_alone.to_vector<double>() == dx_out.to_vector<double>());
  const Tensor dweight_alone = empty(weight.shape(), dtype);
  backend_of(out).causal_conv1d_backward(x, weight, starts, dy, Tensor(), dweight_alone);
  CHECK(dweight_alone.to_vector<double>() == dweight_out.to_vector<double>());
}

}  // namespace

TEST_CASE("causal_conv1d kernel: every dtype, layout and width, with and without segments") {
  Generator generator(1);
  for (const DType dtype : kFloatingTypes) {
    for (const Layout layout : kLayouts) {
      for (const bool segments : {false, true}) {
        check_case({2, 13, 5, 4}, dtype, layout, segments, true, generator);
        check_case({1, 13, 3, 1}, dtype, layout, segments, false, generator);
        check_case({2, 13, 1, 3}, dtype, layout, segments, true, generator);
        check_case({1, 2, 4, 6}, dtype, layout, segments, false, generator);
      }
    }
  }
}

TEST_CASE("causal_conv1d kernel: several blocks of time and threads") {
  Generator generator(2);
  check_case({2, 200, 40, 4}, DType::f32, Layout::dense, true, true, generator);
  check_case({2, 130, 40, 5}, DType::bf16, Layout::dense, false, true, generator);
}

TEST_CASE("causal_conv1d kernel: nothing to do") {
  const Tensor weight = empty({3, 4}, DType::f32);
  set_values(weight, [](const Shape&) { return 1.0; });
  for (const Shape& shape : {Shape{0, 5, 3}, Shape{2, 0, 3}}) {
    const Tensor x = empty(shape, DType::f32);
    const Tensor out = empty(shape, DType::f32);
    backend_of(x).causal_conv1d(x, weight, Tensor(), Tensor(), out);
    const Tensor dweight = empty({3, 4}, DType::f32);
    backend_of(x).causal_conv1d_backward(x, weight, Tensor(), x, out, dweight);
    CHECK(dweight.to_vector<double>() == std::vector<double>(12, 0.0));
  }
}
