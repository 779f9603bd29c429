#include "harness/judge/expectation.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/error.h"
#include "core/generator.h"
#include "ops/convert.h"

namespace deltatape::harness {
namespace {

double largest(const Tensor& x) {
  double result = 0.0;
  for (const double value : x.to_vector<double>()) {
    if (!std::isfinite(value)) {
      return std::numeric_limits<double>::infinity();
    }
    result = std::max(result, std::abs(value));
  }
  return result;
}

/// Upstream gradients times outputs: the size of the terms of the loss, of which every gradient is a sum.
double loss_scale(const Case& wide, const NamedTensors& outputs) {
  double scale = 0.0;
  for (const auto& [name, gradient] : wide.upstream) {
    const Tensor output = find(outputs, name);
    const double width = output.rank() == 0 ? 1.0 : static_cast<double>(std::max<int64_t>(output.size(-1), 1));
    scale += largest(gradient) * largest(output) * std::sqrt(width);
  }
  return scale;
}

/// A measured effect of rounding, as far as it may excuse a candidate. Noise beside zeros is Expected::scale's affair.
double rounding(const Tensor& x, const Tensor& reference) {
  constexpr double kMost = 0.1;  // a case that rounding changes by more still shows gross errors
  const double distance = relative_distance(x, reference);
  return std::isinf(distance) && largest(reference) == 0.0 ? 0.0 : std::min(distance, kMost);
}

uint64_t nudge_seed(const Case& c) { return static_cast<uint64_t>(c.settings.integer("seed")) + 1; }

void check_finite(const Reference& reference, const Case& c, const std::string& name, const Tensor& x) {
  check(std::isfinite(largest(x)), "check_operator",
        "the reference {} gives {} with elements that are not finite for the case {}", reference.name, name,
        c.settings.text());
}

}  // namespace

double unit_roundoff(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return 0x1p-24;
    case DType::f16:
      return 0x1p-11;
    case DType::bf16:
      return 0x1p-8;
    default:
      return 0x1p-53;
  }
}

double absolute_distance(const Tensor& x, const Tensor& reference) {
  if (!x.defined() || !(x.shape() == reference.shape())) {
    return std::numeric_limits<double>::infinity();
  }
  const auto a = x.to_vector<double>();
  const auto b = reference.to_vector<double>();
  double difference = 0.0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double d = std::abs(a[i] - b[i]);
    if (!std::isfinite(d)) {
      return std::numeric_limits<double>::infinity();
    }
    difference = std::max(difference, d);
  }
  return difference;
}

double relative_distance(const Tensor& x, const Tensor& reference) {
  const double difference = absolute_distance(x, reference);
  return difference == 0.0 ? 0.0 : difference / largest(reference);
}

Case nudged(const Case& c, uint64_t seed) {
  Case result = widened(c);
  Generator generator(seed);
  const double u = unit_roundoff(c.dtype);
  const auto nudge = [&](Tensor& tensor) {
    if (!is_floating(tensor.dtype())) {
      return;
    }
    auto values = tensor.to_vector<double>();
    for (double& value : values) {
      value *= 1.0 + u * (2.0 * generator.next_uniform() - 1.0);
    }
    tensor = from_vector(values, tensor.shape());
  };
  for (auto& input : result.inputs) {
    nudge(input.second);
  }
  for (auto& gradient : result.upstream) {
    nudge(gradient.second);
  }
  return result;
}

Expectation::Expectation(const Reference& reference, const Case& c) {
  const Case wide = widened(c);
  const NamedTensors values = run_on_tape(reference.forward, wide);
  const double loss = loss_scale(wide, values);
  for (const auto& [name, value] : values) {
    check_finite(reference, c, name, value);
    const Tensor input = name.front() == 'd' ? harness::find(wide.inputs, name.substr(1)) : Tensor();
    const double scale = input.defined() ? loss / std::max(1.0, largest(input)) : 0.0;
    results_.push_back({.name = name, .value = value, .largest = largest(value), .scale = scale});
  }
  const Case near = nudged(c, nudge_seed(c));
  const Function& quick = reference.other ? reference.other : reference.forward;
  const NamedTensors moved = run_on_tape(quick, near);
  for (Expected& expected : results_) {
    expected.conditioned = rounding(harness::find(moved, expected.name), expected.value);
  }
  if (c.dtype != DType::f64 || reference.other) {
    measure_composed(quick, c);
  }
}

void Expectation::add_intermediates(const Reference& reference, const Case& c) {
  const NamedTensors moved = reference.intermediates(nudged(c, nudge_seed(c)));
  for (const auto& [name, value] : reference.intermediates(widened(c))) {
    check_finite(reference, c, name, value);
    intermediates_.push_back(
        {.name = name, .value = value, .conditioned = rounding(harness::find(moved, name), value)});
  }
}

const Expected* Expectation::find(std::string_view name) const {
  for (const auto* list : {&results_, &intermediates_}) {
    for (const Expected& expected : *list) {
      if (expected.name == name) {
        return &expected;
      }
    }
  }
  return nullptr;
}

void Expectation::measure_forward(const Reference& reference, const Case& c) {
  if (reference.other && c.dtype != DType::f64) {
    measure_composed(reference.forward, c);
  }
}

void Expectation::measure_composed(const Function& function, const Case& c) {
  const NamedTensors values = run_on_tape(function, c);
  for (Expected& expected : results_) {
    expected.composed = std::max(expected.composed, rounding(harness::find(values, expected.name), expected.value));
  }
}

}  // namespace deltatape::harness
