// The checks of one KDA case: the tape against central differences, implementation against implementation.
#pragma once

#include <string>
#include <vector>

#include "tools/kda_case.h"

namespace deltatape::tools {

/// One comparison of one tensor.
struct CheckRow {
  uint64_t seed = 0;
  std::string description;  // of the case
  std::string impl;
  std::string against;  // `differences` or the implementation that it is held against
  std::string tensor;   // o, ht, dq, ..., dh0
  double error = 0.0;   // differences: |analytic - numeric|; else the relative error of tools/comparison.h
  double limit = 0.0;
  bool ok = false;
  std::string note;
};

/// The gradient of every input against central differences, in f64, along two random directions each.
std::vector<CheckRow> check_against_differences(const KdaCase& c, const std::string& impl);

/// Outputs and gradients of `impl` in `dtype` on `device` against the recurrence in f64 on the same, rounded inputs.
/// In 16 bits A_log, dt_bias and states stay f32. Tolerances: tools/kda_tolerance.h.
std::vector<CheckRow> check_against_recurrence(const KdaCase& c, const std::string& impl, DType dtype, Device device);

}  // namespace deltatape::tools
