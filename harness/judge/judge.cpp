#include "harness/judge/judge.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace deltatape::harness {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kFine = 8.0;  // times the error that is expected: another order of sums
constexpr double kFineIn16Bits = 2.0;
constexpr double kWrong = 300.0;          // likewise: no rounding any more, whatever the order of sums
constexpr double kCertainlyWrong = 0.03;  // of the largest element, unless the case itself is that uncertain
constexpr double kNoise = 16.0;           // unit roundoffs of the terms of a sum that cancels
constexpr double kNoiseIn16Bits = 0.125;  // there only operands are rounded, and terms are summed in f32

/// What TF32 does to the operands of products is 2^13 times what f32 does, and the conditioning is one sample of many:
/// up to four times that is less accurate, and no wrong formula.
constexpr double kTf32 = 0x1p15;

/// Numbers that a dtype cannot tell from 0, or that a processor may flush to it.
double vanishing(DType dtype) {
  switch (dtype) {
    case DType::f16:
      return 0x1p-24;
    case DType::f64:
      return std::numeric_limits<double>::min();
    default:
      return std::numeric_limits<float>::min();
  }
}

}  // namespace

Judgement judge(const Expected& expected, const Tensor& x, DType dtype, const Layout& layout) {
  Judgement result;
  result.tensor = expected.name;
  const double u = unit_roundoff(dtype);
  const double base = expected.composed + expected.conditioned + u;
  result.composed = expected.composed;
  const bool short_dtype = u > 0x1p-20;
  result.fine_limit = (short_dtype ? kFineIn16Bits : kFine) * base;
  const double far = std::max(kWrong * base, dtype == DType::f32 ? kTf32 * expected.conditioned : 0.0);
  result.wrong_limit = std::max(2.0 * result.fine_limit, std::min(far, kCertainlyWrong));
  result.verdict = Verdict::wrong;
  if (!x.defined() || !(x.shape() == expected.value.shape())) {
    result.measure.error = kInfinity;
    result.measure.rms_error = kInfinity;
    result.problem =
        x.defined() ? fmt::format("has shape {}, expected {}", x.shape(), expected.value.shape()) : "missing";
    return result;
  }
  result.measure = measure(x, expected.value, x.dtype(), layout);
  const double error = result.measure.error;
  if (!std::isfinite(result.measure.actual)) {
    result.problem = std::isnan(result.measure.actual) ? "NaN" : "infinite";
    return result;
  }
  const double noise_limit =
      std::max((short_dtype ? kNoiseIn16Bits : kNoise) * u * expected.scale, vanishing(x.dtype()));
  const bool noise = std::abs(result.measure.actual - result.measure.expected) <= noise_limit;
  if (noise || error <= result.fine_limit) {
    result.verdict = Verdict::fine;
  } else if (error <= result.wrong_limit) {
    result.verdict = Verdict::less_accurate;
  }
  return result;
}

}  // namespace deltatape::harness
