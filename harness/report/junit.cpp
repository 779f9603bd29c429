#include <fmt/format.h>

#include "harness/report/markup.h"
#include "harness/report/rows.h"
#include "harness/report/writers.h"

namespace deltatape::harness {
namespace {

// One line for the `message` of a failed case.
std::string message_of(const CaseReport& c) {
  const Judgement* judgement = main_judgement(c);
  std::string message(verdict_words(c));
  if (judgement != nullptr && judgement->verdict != Verdict::fine) {
    message = fmt::format("{}: {}", judgement->tensor, message);
    message += judgement->problem.empty()
                   ? fmt::format(", error {}, fine below {}", short_number(judgement->measure.error),
                                 short_number(judgement->fine_limit))
                   : ", " + judgement->problem;
  }
  return c.message.empty() ? message : message + ": " + c.message;
}

// Every judgement that is not fine.
std::string details(const CaseReport& c) {
  std::string text;
  for (const Judgement& judgement : c.judgements) {
    if (judgement.verdict == Verdict::fine) {
      continue;
    }
    text += fmt::format("{}: {}, error {}, fine below {}, wrong above {}, composed path {}", judgement.tensor,
                        to_string(judgement.verdict), short_number(judgement.measure.error),
                        short_number(judgement.fine_limit), short_number(judgement.wrong_limit),
                        short_number(judgement.composed));
    text += judgement.problem.empty() ? "" : ", " + judgement.problem;
    text += judgement.measure.worst.empty() ? "" : ", worst at " + judgement.measure.worst;
    text += "\n";
  }
  return text + (c.stage.empty() ? "" : "first stage that differs: " + c.stage + "\n");
}

std::string case_element(const Report& report, const CaseReport& c) {
  const std::string open = fmt::format(R"(    <testcase classname="{}" name="{}" time="{:.3f}")",
                                       escaped(report.candidate), escaped(c.text), c.seconds);
  switch (c.status) {
    case CaseReport::Status::passed:
      break;
    case CaseReport::Status::failed:
      return fmt::format("{}>\n      <failure type=\"{}\" message=\"{}\">{}</failure>\n    </testcase>\n", open,
                         escaped(verdict_words(c)), escaped(message_of(c)), escaped(details(c)));
    case CaseReport::Status::unsupported:
      return fmt::format("{}>\n      <skipped message=\"{}\"/>\n    </testcase>\n", open, escaped(c.message));
  }
  return open + "/>\n";
}

std::string witness_element(const Report& report, const WitnessRow& row) {
  const std::string open = fmt::format(R"(    <testcase classname="{}" name="{}" time="0")",
                                       escaped("witnesses of " + report.reference), escaped(row.witness));
  if (row.failed == 0) {
    return open + "/>\n";
  }
  const WitnessReport& worst = *row.worst;
  const std::string message = fmt::format("{} of {} checks failed; {}: error {}, limit {}", row.failed, row.comparisons,
                                          worst.tensor, short_number(worst.error), short_number(worst.limit));
  return fmt::format("{}>\n      <failure type=\"witness\" message=\"{}\">{}</failure>\n    </testcase>\n", open,
                     escaped(message), escaped(worst.text));
}

std::string property(std::string_view name, const std::string& value) {
  return fmt::format("      <property name=\"{}\" value=\"{}\"/>\n", name, escaped(value));
}

}  // namespace

std::string to_junit(const Report& report) {
  const auto witnesses = witness_rows(report);
  size_t witnesses_failed = 0;
  std::string witness_elements;
  for (const WitnessRow& row : witnesses) {
    witnesses_failed += row.failed > 0 ? 1 : 0;
    witness_elements += witness_element(report, row);
  }
  const auto failed = static_cast<size_t>(report.count(CaseReport::Status::failed));
  const size_t unjudged = !report.passed() && failed + witnesses_failed == 0 ? 1 : 0;
  std::string xml = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";
  xml += fmt::format("<testsuites tests=\"{}\" failures=\"{}\" errors=\"0\" time=\"{:.3f}\">\n",
                     report.cases.size() + witnesses.size() + unjudged, failed + witnesses_failed + unjudged,
                     report.seconds);
  xml += fmt::format(
      "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"0\" skipped=\"{}\" time=\"{:.3f}\">\n",
      escaped(report.candidate), report.cases.size() + unjudged, failed + unjudged,
      report.count(CaseReport::Status::unsupported), report.seconds);
  xml += "    <properties>\n" + property("reference", report.reference) +
         property("seed", std::to_string(report.seed)) + property("budget_s", fmt::format("{}", report.budget)) +
         property("summary", report.summary());
  if (report.failure) {
    xml += property("smallest", report.failure->smallest.text) + property("command", report.failure->command);
  }
  xml += "    </properties>\n";
  for (const CaseReport& c : report.cases) {
    xml += case_element(report, c);
  }
  if (unjudged > 0) {  // nobody takes skipped cases for a pass
    xml += fmt::format(
        "    <testcase classname=\"{}\" name=\"check\" time=\"0\">\n      <failure type=\"check\" message=\"{}\"/>\n"
        "    </testcase>\n",
        escaped(report.candidate), escaped(report.summary()));
  }
  xml += "  </testsuite>\n";
  if (!witnesses.empty()) {
    xml += fmt::format(
        "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"0\" skipped=\"0\" time=\"0\">\n{}"
        "  </testsuite>\n",
        escaped("witnesses of " + report.reference), witnesses.size(), witnesses_failed, witness_elements);
  }
  return xml + "</testsuites>\n";
}

}  // namespace deltatape::harness
