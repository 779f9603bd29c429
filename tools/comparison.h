// One tensor held against its reference: the measures and the verdict of every --check.
#pragma once

#include <string>
#include <vector>

#include "core/tensor.h"
#include "tools/table.h"

namespace deltatape::tools {

struct Tolerance {
  double relative = 1e-9;
  double floor = 1e-12;  // a largest absolute error below this passes: gradients that are exactly zero occur
};

struct Comparison {
  std::string name;
  double relative_error = 0.0;  // rms(x - ref) / (rms(ref) + 1e-8)
  double max_abs_error = 0.0;
  std::string index;  // of the largest absolute error, `[1, 0]`; where NaN came first, of that
  double tolerance = 0.0;
  std::string problem;  // why there is nothing to measure: a missing tensor, a wrong shape
  bool ok = false;
};

/// Compares element by element, in f64. NaN and infinity on either side fail, and so do different shapes and an
/// undefined tensor.
Comparison compare(std::string name, const Tensor& result, const Tensor& reference, const Tolerance& tolerance);

/// A table with a row per comparison; the first column names the case.
Table comparison_table();
void add_comparison(Table& table, const std::string& case_name, const Comparison& comparison);

}  // namespace deltatape::tools
