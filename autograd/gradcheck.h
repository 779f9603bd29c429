// gradcheck: the tape's gradients against central differences.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/tensor.h"

namespace deltatape {

struct GradcheckOptions {
  double step = 1e-6;  // of the differences; for an element x it is step * max(1, |x|)
  double rtol = 1e-5;  // an element passes when |analytic - numeric| <= atol + rtol * |numeric|
  double atol = 1e-7;
  int64_t directions = 0;  // 0: every element; n > 0: n random directions per input instead (for large inputs)
  uint64_t seed = 0;       // of the upstream gradients and the directions
};

/// The worst comparison of one input.
struct GradcheckInput {
  size_t input = 0;  // position in the list of inputs
  bool ok = true;
  int64_t comparisons = 0;
  Shape index;  // of the worst element; with directions: [number of the direction]
  double analytic = 0.0;
  double numeric = 0.0;
  double step = 0.0;
  double limit = 0.0;
};

struct GradcheckReport {
  bool ok = true;
  std::vector<GradcheckInput> inputs;  // one per floating-point input
  /// A line per input: verdict, worst index, analytic, numeric, difference, limit, step.
  [[nodiscard]] std::string text() const;
};

using TensorFunction = std::function<std::vector<Tensor>(const std::vector<Tensor>&)>;

/// Compares the tape's gradient of L = sum_i <u_i, f(inputs)_i> with central differences of f, for random normal u (a
/// sum of outputs alone would let errors cancel). All floating-point inputs are differentiated; integer and bool inputs
/// are passed on. `f` may be any callable on tensors, must return the same values for the same inputs, and may return
/// several tensors (integer ones are ignored). NaN or infinity on either side is a failure.
///
/// Throws Error when no input or no output is floating point, when the outputs of two calls differ in number, shape or
/// dtype, and when a floating-point input is not f64: central differences in f32 have errors near 1e-3, which hide
/// real mistakes.
GradcheckReport gradcheck(const TensorFunction& f, const std::vector<Tensor>& inputs,
                          const GradcheckOptions& options = {});

/// gradcheck of the gradient: the second derivatives of f with respect to its inputs and its upstream gradients.
GradcheckReport gradgradcheck(const TensorFunction& f, const std::vector<Tensor>& inputs,
                              const GradcheckOptions& options = {});

}  // namespace deltatape
