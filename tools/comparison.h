// One tensor held against its reference: the measures and the verdict of every --check.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "harness/case.h"
#include "io/safetensors.h"
#include "tools/table.h"

namespace deltatape::tools {

using harness::NamedTensors;

struct Tolerance {
  double relative = 1e-9;
  double floor = 1e-12;  // a largest absolute error below this passes: gradients that are exactly zero occur
  /// Where set, `relative` does not count, but how many units in the last place of its dtype each element may be off.
  std::optional<int64_t> max_ulp = std::nullopt;
};

struct Comparison {
  std::string name;
  double relative_error = 0.0;  // rms(x - ref) / (rms(ref) + 1e-8)
  double max_abs_error = 0.0;
  std::string index;  // of the largest absolute error, `[1, 0]`; where NaN came first, of that
  int64_t ulp = 0;    // the largest distance in units in the last place; measured where Tolerance::max_ulp is set
  double tolerance = 0.0;
  std::string problem;  // why it failed where the errors do not say it: a missing tensor, a wrong shape (errors: NaN)
  bool ok = false;
};

/// Compares element by element, in f64. NaN and infinity on either side fail, and so do different shapes and an
/// undefined tensor.
Comparison compare(std::string name, const Tensor& result, const Tensor& reference, const Tolerance& tolerance);

/// Compares all results and all references: a tensor that only one side has fails.
std::vector<Comparison> compare_all(const NamedTensors& results, const io::TensorMap& references,
                                    const std::function<Tolerance(const std::string&)>& tolerance_of);

/// A table with a row per comparison; the first column names the case.
Table comparison_table();
void add_comparison(Table& table, const std::string& case_name, const Comparison& comparison);

}  // namespace deltatape::tools
