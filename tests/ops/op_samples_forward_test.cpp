// Forward values of every op against plain loops: in f64, on integers, on larger and on empty tensors, with
// broadcasting.
#include <doctest/doctest.h>

#include <algorithm>

#include "autograd/gradcheck.h"
#include "tests/support/sample_runs.h"

namespace deltatape::test {
namespace {

bool always(const OpSample&) { return true; }

// The row's further shapes; an elementwise op goes through a scalar, a tensor large enough for several threads with
// odd sizes, and empty ones.
std::vector<std::vector<Shape>> shapes_of(const OpSample& sample, bool empty) {
  std::vector<std::vector<Shape>> all = sample.shapes;
  if (sample.elementwise) {
    for (const Shape& shape : {Shape{}, Shape{1}, Shape{131, 307}, Shape{0}, Shape{2, 0, 3}}) {
      all.emplace_back(sample.inputs.size(), shape);
    }
  }
  const auto is_other = [&](const std::vector<Shape>& shapes) {
    return empty != std::any_of(shapes.begin(), shapes.end(), [](const Shape& shape) { return shape.numel() == 0; });
  };
  all.erase(std::remove_if(all.begin(), all.end(), is_other), all.end());
  return all;
}

TEST_CASE("op samples: forward") {
  for_each_sample("forward", always, [](const OpSample& sample) {
    check_against_reference(sample, draw_inputs(sample, DType::f64));
    for (const std::vector<Shape>& shapes : shapes_of(sample, false)) {
      CAPTURE(shapes.front());
      check_against_reference(sample, draw_inputs(sample, DType::f64, shapes));
    }
  });
}

TEST_CASE("op samples: integers") {
  for_each_sample(
      "integers", [](const OpSample& sample) { return sample.integers; },
      [](const OpSample& sample) {
        for (const DType dtype : {DType::i64, DType::i32}) {
          CAPTURE(std::string(to_string(dtype)));
          check_against_reference(sample, draw_inputs(sample, dtype));
        }
      });
}

TEST_CASE("op samples: empty") {
  const auto wanted = [](const OpSample& sample) { return !shapes_of(sample, true).empty(); };
  for_each_sample("empty", wanted, [](const OpSample& sample) {
    for (const std::vector<Shape>& shapes : shapes_of(sample, true)) {
      CAPTURE(shapes.front());
      const Tensors inputs = draw_inputs(sample, DType::f64, shapes);
      check_against_reference(sample, inputs);
      const Run run = run_with_gradients(sample, inputs);
      for (size_t i = 0; i < inputs.size() && sample.differentiable; ++i) {
        if (is_floating(inputs[i].dtype()) && inputs[i].numel() == 0) {
          check_close(fmt::format("gradient of input {}", i), run.gradients[i], inputs[i], exactly());
        }
      }
    }
  });
}

// Input i gets pair[i % 2], so that of three inputs two differ as well.
TEST_CASE("op samples: broadcast") {
  const std::vector<std::vector<Shape>> pairs{{{2, 3}, {3}}, {{2, 1}, {1, 3}}, {{}, {2, 3}},        {{2, 3}, {}},
                                              {{1}, {4}},    {{4}, {1}},       {{3, 1, 2}, {2, 1}}, {{0, 1}, {1, 3}}};
  const auto wanted = [](const OpSample& sample) { return sample.elementwise && sample.inputs.size() > 1; };
  for_each_sample("broadcast", wanted, [&](const OpSample& sample) {
    for (const std::vector<Shape>& pair : pairs) {
      CAPTURE(pair[0]);
      CAPTURE(pair[1]);
      std::vector<Shape> shapes;
      for (size_t i = 0; i < sample.inputs.size(); ++i) {
        shapes.push_back(pair[(i + sample.inputs.size()) % 2]);
      }
      const Tensors inputs = draw_inputs(sample, DType::f64, shapes);
      check_against_reference(sample, inputs);
      if (sample.differentiable) {
        const GradcheckReport report = gradcheck(sample.call, inputs);
        CHECK_MESSAGE(report.ok, report.text());
      }
    }
  });
}

}  // namespace
}  // namespace deltatape::test
