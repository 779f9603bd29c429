// What several writers of reports make of a Report first. The rows point into it.
#pragma once

#include <string_view>
#include <vector>

#include "harness/report/report.h"

namespace deltatape::harness {

/// All comparisons of one tensor.
struct TensorRow {
  std::string_view tensor;
  int64_t comparisons = 0;
  int64_t wrong = 0;
  int64_t less_accurate = 0;
  const Judgement* worst = nullptr;  // by verdict, then by severity
  const CaseReport* worst_case = nullptr;
};

/// All comparisons of one witness.
struct WitnessRow {
  std::string_view witness;
  int64_t comparisons = 0;
  int64_t failed = 0;
  const WitnessReport* worst = nullptr;  // a failed one before others, then by error over limit
};

/// Rows in the order in which the names first occur.
std::vector<TensorRow> tensor_rows(const Report& report);
std::vector<WitnessRow> witness_rows(const Report& report);

/// The error as a multiple of the limit below which it is fine: what makes errors of several dtypes and cases
/// comparable. Infinite where there are no numbers.
double severity(const Judgement& judgement);
/// Whether `a` is worse than `b`: by verdict, then by severity.
bool is_worse(const Judgement& a, const Judgement& b);

/// The judgement that a case is known by: that of its `tensor`, else the worst; nullptr when it has none.
const Judgement* main_judgement(const CaseReport& c);

/// `fault` for a failed case without a tensor that is off, else the words of the main judgement's verdict, or of the
/// status where there is none.
std::string_view verdict_words(const CaseReport& c);
std::string_view to_string(CaseReport::Status status);

/// `1.23e-07`; nothing else than `inf` and `nan` where that is what it is.
std::string short_number(double value);
/// `3.2 s`, `210 ms`, `2 min 5 s`.
std::string duration(double seconds);

}  // namespace deltatape::harness
