#include "tests/support/compare.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace deltatape::test {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

double unit_roundoff(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return 0x1p-53;
    case DType::f32:
      return 0x1p-24;
    case DType::f16:
      return 0x1p-11;
    case DType::bf16:
      return 0x1p-8;
    default:
      return 0.0;
  }
}

double largest_finite(const std::vector<double>& values) {
  double largest = 0.0;
  for (const double value : values) {
    if (std::isfinite(value)) {
      largest = std::max(largest, std::abs(value));
    }
  }
  return largest;
}

// The share of its limit that one element uses: at most 1 is fine, never NaN.
double share_used(double actual, double expected, double limit, bool nan_allowed) {
  if (std::isnan(expected)) {
    return nan_allowed && std::isnan(actual) ? 0.0 : kInfinity;
  }
  if (actual == expected) {
    return 0.0;  // the same infinity, too
  }
  const double difference = std::abs(actual - expected);
  if (!(difference <= limit) || !std::isfinite(actual) || !std::isfinite(expected)) {
    return std::isfinite(difference) && limit > 0.0 ? difference / limit : kInfinity;
  }
  return difference / limit;
}

Shape index_of(int64_t position, const Shape& shape) {
  Shape index = shape;
  for (int d = shape.rank() - 1; d >= 0; --d) {
    index[d] = position % shape[d];
    position /= shape[d];
  }
  return index;
}

std::string neighbours(const std::vector<double>& values, int64_t position) {
  std::string text;
  const auto count = static_cast<int64_t>(values.size());
  for (int64_t i = std::max<int64_t>(position - 2, 0); i < std::min(position + 3, count); ++i) {
    const double value = values[static_cast<size_t>(i)];
    text += i == position ? fmt::format(" [{:.9g}]", value) : fmt::format(" {:.9g}", value);
  }
  return text;
}

void report(const Label& label, const Comparison& comparison) {
  if (comparison.ok) {
    CHECK(comparison.ok);
    return;
  }
  const std::string seed = label.seed ? fmt::format(" (seed {})", *label.seed) : "";
  const std::string message = fmt::format("{}{}: {}", label.name, seed, comparison.text);
  ADD_FAIL_CHECK_AT(label.file, label.line, message);
}

}  // namespace

Tolerance rounding(DType dtype, double units) {
  const double bound = units * unit_roundoff(dtype);
  return {dtype == DType::f16 ? 0x1p-24 : 0.0, bound, bound, false};
}

Comparison compare(const Tensor& actual, const Array& expected, DType dtype, const Tolerance& tolerance) {
  Comparison result;
  if (!actual.defined()) {
    result.text = fmt::format("undefined, expected {}{}", dtype, expected.shape);
    return result;
  }
  if (actual.dtype() != dtype || actual.shape() != expected.shape) {
    result.text = fmt::format("{}{}, expected {}{}", actual.dtype(), actual.shape(), dtype, expected.shape);
    return result;
  }
  const std::vector<double> values = actual.to_vector<double>();
  const double base = tolerance.absolute + tolerance.of_largest * largest_finite(expected.data);
  const auto limit_at = [&](size_t i) {
    return base + (std::isfinite(expected.data[i]) ? tolerance.relative * std::abs(expected.data[i]) : 0.0);
  };
  int64_t failed = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const double share = share_used(values[i], expected.data[i], limit_at(i), tolerance.nan_allowed);
    failed += !(share <= 1.0) ? 1 : 0;
    if (result.worst < 0 || share > result.share) {
      result.worst = static_cast<int64_t>(i);
      result.share = share;
    }
  }
  result.ok = failed == 0;
  if (result.worst >= 0) {
    const auto worst = static_cast<size_t>(result.worst);
    result.text = fmt::format(
        "{} of {} elements differ; worst at {}: {:.17g}, expected {:.17g}, limit {:.3g} ({:.3g} used)"
        "\n  actual around it:  {}\n  expected around it:{}",
        failed, values.size(), index_of(result.worst, expected.shape), values[worst], expected.data[worst],
        limit_at(worst), result.share, neighbours(values, result.worst), neighbours(expected.data, result.worst));
  }
  return result;
}

Comparison compare(const Tensor& actual, const Tensor& expected, const Tolerance& tolerance) {
  if (!expected.defined()) {
    Comparison result;
    result.ok = !actual.defined();
    result.text = result.ok ? "undefined" : fmt::format("{}, expected undefined", describe(actual));
    return result;
  }
  return compare(actual, to_array(expected), expected.dtype(), tolerance);
}

void check_close(const Label& label, const Tensor& actual, const Tensor& expected, const Tolerance& tolerance) {
  report(label, compare(actual, expected, tolerance));
}

void check_close(const Label& label, const Tensor& actual, const Array& expected, DType dtype,
                 const Tolerance& tolerance) {
  report(label, compare(actual, expected, dtype, tolerance));
}

}  // namespace deltatape::test
