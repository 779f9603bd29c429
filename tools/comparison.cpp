#include "tools/comparison.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "harness/judge/ulp.h"

namespace deltatape::tools {
namespace {

std::string index_of(int64_t position, const Shape& shape) {
  Shape index = Shape::filled(shape.rank(), 0);
  for (int d = shape.rank() - 1; d >= 0; --d) {
    index[d] = position % shape[d];
    position /= shape[d];
  }
  return to_string(index);
}

}  // namespace

Comparison compare(std::string name, const Tensor& result, const Tensor& reference, const Tolerance& tolerance) {
  Comparison comparison;
  comparison.name = std::move(name);
  comparison.tolerance = tolerance.max_ulp ? static_cast<double>(*tolerance.max_ulp) : tolerance.relative;
  comparison.relative_error = std::nan("");
  comparison.max_abs_error = comparison.relative_error;
  if (!result.defined() || !reference.defined()) {
    comparison.problem = result.defined() ? "no reference" : "missing";
    return comparison;
  }
  if (!(result.shape() == reference.shape())) {
    comparison.problem = fmt::format("shape {}, expected {}", result.shape(), reference.shape());
    return comparison;
  }
  comparison.relative_error = 0.0;
  comparison.max_abs_error = 0.0;
  const auto x = result.to_vector<double>();
  const auto ref = reference.to_vector<double>();
  double squares = 0.0;
  double reference_squares = 0.0;
  int64_t worst = 0;
  bool finite = true;
  for (size_t i = 0; i < x.size() && finite; ++i) {
    const double difference = std::abs(x[i] - ref[i]);
    finite = std::isfinite(difference);
    if (!finite || difference > comparison.max_abs_error) {
      comparison.max_abs_error = difference;
      worst = static_cast<int64_t>(i);
    }
    if (tolerance.max_ulp && finite) {
      comparison.ulp = std::max(comparison.ulp, harness::ulp_distance(x[i], ref[i], result.dtype()));
    }
    squares += difference * difference;
    reference_squares += ref[i] * ref[i];
  }
  if (x.empty()) {
    comparison.ok = true;
    return comparison;
  }
  const auto count = static_cast<double>(x.size());
  comparison.index = index_of(worst, result.shape());
  comparison.relative_error =
      finite ? std::sqrt(squares / count) / (std::sqrt(reference_squares / count) + 1e-8) : std::nan("");
  const bool near =
      tolerance.max_ulp ? comparison.ulp <= *tolerance.max_ulp : comparison.relative_error <= tolerance.relative;
  comparison.ok = finite && (near || comparison.max_abs_error < tolerance.floor);
  if (!comparison.ok && finite && tolerance.max_ulp) {
    comparison.problem = fmt::format("{} units in the last place", comparison.ulp);
  }
  return comparison;
}

std::vector<Comparison> compare_all(const NamedTensors& results, const io::TensorMap& references,
                                    const std::function<Tolerance(const std::string&)>& tolerance_of) {
  std::vector<Comparison> comparisons;
  io::TensorMap left = references;
  for (const auto& [name, result] : results) {
    const auto found = references.find(name);
    comparisons.push_back(
        compare(name, result, found == references.end() ? Tensor() : found->second, tolerance_of(name)));
    left.erase(name);
  }
  for (const auto& [name, reference] : left) {
    comparisons.push_back(compare(name, Tensor(), reference, tolerance_of(name)));
  }
  return comparisons;
}

Table comparison_table() {
  return Table({"case", "tensor", "relative_error", "max_abs_error", "index", "tolerance", "verdict"});
}

void add_comparison(Table& table, const std::string& case_name, const Comparison& comparison) {
  const std::string verdict =
      comparison.ok ? "ok" : "FAILED" + (comparison.problem.empty() ? "" : " (" + comparison.problem + ")");
  table.add_row({case_name, comparison.name, Cell(comparison.relative_error), Cell(comparison.max_abs_error),
                 comparison.index, Cell(comparison.tolerance, 0), verdict});
}

}  // namespace deltatape::tools
