#include "harness/report/report.h"

#include <fmt/format.h>

#include <algorithm>

namespace deltatape::harness {

std::string_view to_string(Verdict verdict) {
  switch (verdict) {
    case Verdict::fine:
      return "fine";
    case Verdict::less_accurate:
      return "less accurate";
    case Verdict::wrong:
      break;
  }
  return "WRONG";
}

bool Report::passed() const {
  const bool ran = count(CaseReport::Status::passed) > 0;
  const bool agree = std::all_of(witnesses.begin(), witnesses.end(), [](const WitnessReport& w) { return w.ok; });
  return ran && agree && !failure && count(CaseReport::Status::failed) == 0;
}

int64_t Report::count(CaseReport::Status status) const {
  return std::count_if(cases.begin(), cases.end(), [&](const CaseReport& c) { return c.status == status; });
}

std::string Report::summary() const {
  const int64_t failed = count(CaseReport::Status::failed);
  const int64_t unsupported = count(CaseReport::Status::unsupported);
  const auto total = static_cast<int64_t>(cases.size());
  const auto disagree =
      std::count_if(witnesses.begin(), witnesses.end(), [](const WitnessReport& witness) { return !witness.ok; });
  const int64_t fine = total - failed - unsupported;
  std::string line = fmt::format("{}: {} {} passed, {} failed, {} not supported", passed() ? "passed" : "failed", fine,
                                 fine == 1 ? "case" : "cases", failed, unsupported);
  if (disagree > 0) {
    line += fmt::format(", {} of {} checks of the reference by its witnesses failed", disagree, witnesses.size());
  }
  if (total == unsupported) {
    line += ", so nothing was judged";
  }
  return line;
}

}  // namespace deltatape::harness
