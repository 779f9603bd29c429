#include <fmt/format.h>

#include "harness/report/rows.h"
#include "harness/report/text_table.h"
#include "harness/report/writers.h"

namespace deltatape::harness {
namespace {

constexpr size_t kWidth = 120;

using Lines = std::vector<std::vector<TextCell>>;

TextCell number(double value) { return {short_number(value), true}; }
TextCell number(int64_t value) { return {std::to_string(value), true}; }

std::string tensor_table(const Report& report) {
  Lines lines = {{{"tensor"},
                  {"cases", true},
                  {"wrong", true},
                  {"less accurate", true},
                  {"worst error", true},
                  {"fine below", true},
                  {"where"}}};
  for (const TensorRow& row : tensor_rows(report)) {
    const Judgement& worst = *row.worst;
    const bool numbers = worst.problem.empty();
    lines.push_back({{std::string(row.tensor)},
                     number(row.comparisons),
                     number(row.wrong),
                     number(row.less_accurate),
                     numbers ? number(worst.measure.error) : TextCell{"-", true},
                     numbers ? number(worst.fine_limit) : TextCell{"-", true},
                     {numbers ? worst.measure.worst : worst.problem}});
  }
  return lines.size() > 1 ? text_table(lines, kWidth) : "";
}

std::string witness_table(const Report& report) {
  Lines lines = {{{"witness of the reference"},
                  {"checks", true},
                  {"failed", true},
                  {"worst error", true},
                  {"limit", true},
                  {"where"}}};
  for (const WitnessRow& row : witness_rows(report)) {
    lines.push_back(
        {{std::string(row.witness)},
         number(row.comparisons),
         number(row.failed),
         number(row.worst->error),
         number(row.worst->limit),
         {row.failed == 0 ? row.worst->tensor : fmt::format("{} of {}", row.worst->tensor, row.worst->text)}});
  }
  return lines.size() > 1 ? text_table(lines, kWidth) : "";
}

// `name  text` per entry; entries without text are left out.
std::string entries(const std::vector<std::pair<std::string, std::string>>& list) {
  std::string out;
  for (const auto& [name, text] : list) {
    if (!text.empty()) {
      out += fmt::format("  {:<9} {}\n", name, text);
    }
  }
  return out;
}

std::string failure_block(const Failure& failure) {
  const CaseReport& smallest = failure.smallest;
  const Judgement* judgement = main_judgement(smallest);
  std::string where;
  std::string numbers;
  std::string problem = smallest.message;
  if (judgement != nullptr) {
    const Measure& measure = judgement->measure;
    if (!measure.worst.empty()) {
      where = fmt::format("{}: {:.6g}, expected {:.6g}", measure.worst, measure.actual, measure.expected);
      numbers = fmt::format("{}{}; fine below {}, wrong above {}; composed path {}", short_number(measure.error),
                            measure.ulp == INT64_MAX ? "" : fmt::format(" ({} ulp)", measure.ulp),
                            short_number(judgement->fine_limit), short_number(judgement->wrong_limit),
                            short_number(judgement->composed));
    }
    problem += (problem.empty() || judgement->problem.empty() ? "" : "; ") + judgement->problem;
  }
  const bool shrunk = failure.first.text != smallest.text;
  return fmt::format("first failure, after {} ({} {} failed)\n", duration(failure.seconds), failure.failing_cases,
                     failure.failing_cases == 1 ? "case" : "cases") +
         entries({{"case", failure.first.text},
                  {"smallest", shrunk ? fmt::format("{}  ({} simpler {} tried)", smallest.text, failure.tried,
                                                    failure.tried == 1 ? "case" : "cases")
                                      : ""},
                  {"tensor", smallest.tensor},
                  {"verdict", std::string(verdict_words(smallest))},
                  {"stage", smallest.stage.empty() ? "" : smallest.stage + " is the first to differ"},
                  {"where", where},
                  {"error", numbers},
                  {"problem", problem},
                  {"note", failure.note},
                  {"repeat", failure.command}});
}

}  // namespace

std::string to_text(const Report& report) {
  std::string text = fmt::format("{} against {}, from seed {}, {}\n", report.candidate, report.reference, report.seed,
                                 duration(report.seconds));
  const std::string failure = report.failure ? failure_block(*report.failure) : "";
  for (const std::string& block : {tensor_table(report), witness_table(report), failure}) {
    text += block.empty() ? "" : "\n" + block;
  }
  return text + "\n" + report.summary() + "\n";
}

}  // namespace deltatape::harness
