// Your own kernel, forward and backward by hand, against a differentiable reference on cases that are drawn for it.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "deltatape.h"

namespace dt = deltatape;
namespace harness = deltatape::harness;

namespace {

// The kernel under test: y = softmax(x) along rows of plain floats, and its gradient dx = y (dy - y . dy).
void my_softmax(const float* x, int64_t rows, int64_t columns, float* y) {
  for (int64_t row = 0; row < rows; ++row, x += columns, y += columns) {
    float largest = x[0];
    for (int64_t i = 1; i < columns; ++i) {
      largest = std::max(largest, x[i]);
    }
    float sum = 0.0F;
    for (int64_t i = 0; i < columns; ++i) {
      y[i] = std::exp(x[i] - largest);
      sum += y[i];
    }
    for (int64_t i = 0; i < columns; ++i) {
      y[i] /= sum;
    }
  }
}

void my_softmax_backward(const float* y, const float* dy, int64_t rows, int64_t columns, float* dx) {
  for (int64_t row = 0; row < rows; ++row, y += columns, dy += columns, dx += columns) {
    float along = 0.0F;
    for (int64_t i = 0; i < columns; ++i) {
      along += y[i] * dy[i];
    }
    for (int64_t i = 0; i < columns; ++i) {
      dx[i] = y[i] * (dy[i] - along);
    }
  }
}

harness::Answer run_my_kernel(const harness::Case& c) {
  const dt::Tensor x = harness::find(c.inputs, "x");
  const dt::Tensor dy = harness::find(c.upstream, "y");
  dt::Tensor y = dt::empty(x.shape());
  dt::Tensor dx = dt::empty(x.shape());
  my_softmax(x.data<float>(), x.size(0), x.size(1), y.mutable_data<float>());
  my_softmax_backward(y.data<float>(), dy.data<float>(), x.size(0), x.size(1), dx.mutable_data<float>());
  return {.results = {{"y", y}, {"dx", dx}}};
}

// What varies from case to case, and the tensors that it stands for.
harness::Space my_space() {
  harness::Space space;
  space.integer("rows", "of x", 1, 20)
      .integer("columns", "of x", 1, 300, {1, 2, 31, 32, 33, 255, 256, 257})
      .choice("logits", "normal, far apart, or all the same", {"normal", "far", "equal"})
      .make([](const harness::Settings& settings) {
        dt::Generator generator(static_cast<uint64_t>(settings.integer("seed")));
        const dt::Shape shape{settings.integer("rows"), settings.integer("columns")};
        const std::string& logits = settings.word("logits");
        const double size = logits == "far" ? 200.0 : logits == "equal" ? 0.0 : 1.0;
        harness::Case c;
        c.settings = settings;
        c.dtype = dt::DType::f32;
        c.inputs = {{"x", dt::mul(dt::randn(shape, generator), size)}};
        c.upstream = {{"y", dt::randn(shape, generator)}};
        return c;
      });
  return space;
}

}  // namespace

int main() {
  // The reference is written with ops: its gradient comes from the tape.
  const harness::Reference reference{.name = "softmax on the tape",
                                     .forward = [](const harness::Settings&, const harness::NamedTensors& inputs) {
                                       return harness::NamedTensors{{"y", dt::softmax(harness::find(inputs, "x"), 1)}};
                                     }};
  const harness::Candidate candidate{.name = "my softmax", .run = run_my_kernel};
  harness::CheckOptions options;
  options.budget = 0.5;  // seconds
  const harness::Report report = harness::check_operator(reference, candidate, my_space(), options);
  std::fputs(harness::to_text(report).c_str(), stdout);
  return report.passed() ? 0 : 1;
}
