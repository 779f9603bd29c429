#include "harness/report/rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace deltatape::harness {
namespace {

double ratio(double error, double limit) {
  if (error == 0.0) {
    return 0.0;
  }
  const double times = error / limit;
  return std::isnan(times) ? std::numeric_limits<double>::infinity() : times;
}

template <class Row, class Name>
Row& row_of(std::vector<Row>& rows, std::string_view Row::*key, const Name& name) {
  const auto found = std::find_if(rows.begin(), rows.end(), [&](const Row& row) { return row.*key == name; });
  if (found != rows.end()) {
    return *found;
  }
  Row& row = rows.emplace_back();
  row.*key = name;
  return row;
}

}  // namespace

double severity(const Judgement& judgement) {
  return judgement.problem.empty() ? ratio(judgement.measure.error, judgement.fine_limit)
                                   : std::numeric_limits<double>::infinity();
}

bool is_worse(const Judgement& a, const Judgement& b) {
  return a.verdict != b.verdict ? a.verdict > b.verdict : severity(a) > severity(b);
}

std::vector<TensorRow> tensor_rows(const Report& report) {
  std::vector<TensorRow> rows;
  for (const CaseReport& c : report.cases) {
    for (const Judgement& judgement : c.judgements) {
      TensorRow& row = row_of(rows, &TensorRow::tensor, judgement.tensor);
      ++row.comparisons;
      row.wrong += judgement.verdict == Verdict::wrong ? 1 : 0;
      row.less_accurate += judgement.verdict == Verdict::less_accurate ? 1 : 0;
      if (row.worst == nullptr || is_worse(judgement, *row.worst)) {
        row.worst = &judgement;
        row.worst_case = &c;
      }
    }
  }
  return rows;
}

std::vector<WitnessRow> witness_rows(const Report& report) {
  std::vector<WitnessRow> rows;
  for (const WitnessReport& witness : report.witnesses) {
    WitnessRow& row = row_of(rows, &WitnessRow::witness, witness.witness);
    ++row.comparisons;
    row.failed += witness.ok ? 0 : 1;
    const bool worse =
        row.worst == nullptr ||
        (witness.ok != row.worst->ok ? row.worst->ok
                                     : ratio(witness.error, witness.limit) > ratio(row.worst->error, row.worst->limit));
    row.worst = worse ? &witness : row.worst;
  }
  return rows;
}

const Judgement* main_judgement(const CaseReport& c) {
  const Judgement* worst = nullptr;
  for (const Judgement& judgement : c.judgements) {
    if (!c.tensor.empty() && judgement.tensor == c.tensor) {
      return &judgement;
    }
    if (worst == nullptr || is_worse(judgement, *worst)) {
      worst = &judgement;
    }
  }
  return worst;
}

std::string_view verdict_words(const CaseReport& c) {
  const Judgement* judgement = main_judgement(c);
  if (c.status == CaseReport::Status::failed && (judgement == nullptr || judgement->verdict == Verdict::fine)) {
    return "fault";
  }
  return judgement == nullptr ? to_string(c.status) : to_string(judgement->verdict);
}

std::string_view to_string(CaseReport::Status status) {
  switch (status) {
    case CaseReport::Status::passed:
      return "passed";
    case CaseReport::Status::failed:
      return "failed";
    case CaseReport::Status::unsupported:
      break;
  }
  return "unsupported";
}

std::string short_number(double value) { return value == 0.0 ? "0" : fmt::format("{:.2e}", value); }

std::string duration(double seconds) {
  if (!(seconds < 60.0)) {
    return fmt::format("{:.0f} min {:.0f} s", std::floor(seconds / 60.0), std::floor(std::fmod(seconds, 60.0)));
  }
  return seconds < 1.0 ? fmt::format("{:.0f} ms", seconds * 1e3) : fmt::format("{:.1f} s", seconds);
}

}  // namespace deltatape::harness
