#include <fmt/format.h>

#include <algorithm>

#include "harness/report/html/plots.h"
#include "harness/report/html/style.h"
#include "harness/report/markup.h"
#include "harness/report/rows.h"
#include "harness/report/writers.h"

namespace deltatape::harness {
namespace {

constexpr size_t kMostCases = 500;     // rows of the table of cases
constexpr size_t kMostFailures = 100;  // rows of failed checks of witnesses

using Status = CaseReport::Status;

std::string tag(std::string_view words) {
  const std::string_view css = words == "fine" || words == "passed" || words == "ok" ? "fine"
                               : words == "less accurate"                            ? "less"
                               : words == "unsupported"                              ? "none"
                                                                                     : "wrong";
  return fmt::format("<span class=\"tag {}\">{}</span>", css, escaped(words));
}

std::string cell(const std::string& html) { return "<td>" + html + "</td>"; }
std::string words(std::string_view text) { return "<td class=\"words\">" + escaped(text) + "</td>"; }
std::string number(double value) { return "<td class=\"n\">" + short_number(value) + "</td>"; }
std::string number(int64_t value) { return fmt::format("<td class=\"n\">{}</td>", value); }
std::string code(std::string_view text) { return "<code>" + escaped(text) + "</code>"; }

// Headings of columns; those that begin with `#` are over numbers.
std::string table(const std::vector<std::string>& columns, const std::string& rows) {
  std::string head;
  for (const std::string& column : columns) {
    head += column.starts_with('#') ? "<th class=\"n\" scope=\"col\">" + column.substr(1) + "</th>"
                                    : "<th scope=\"col\">" + column + "</th>";
  }
  return "<div class=\"scroll\"><table><thead><tr>" + head + "</tr></thead><tbody>" + rows + "</tbody></table></div>";
}

std::string section(std::string_view heading, std::string_view note, const std::string& content) {
  return content.empty() ? ""
                         : fmt::format("<section>\n<h2>{}</h2>\n{}{}\n</section>\n", heading,
                                       note.empty() ? "" : fmt::format("<p class=\"sub\">{}</p>\n", note), content);
}

std::string fact(std::string_view name, const std::string& value, bool bad = false) {
  return fmt::format("<div><dt>{}</dt><dd{}>{}</dd></div>", name, bad ? " class=\"bad\"" : "", value);
}

std::string banner(const Report& report) {
  const auto total = static_cast<int64_t>(report.cases.size());
  const int64_t failed = report.count(Status::failed);
  std::string facts = fact("cases", std::to_string(total)) + fact("failed", std::to_string(failed), failed > 0) +
                      fact("not supported", std::to_string(report.count(Status::unsupported)));
  facts += fact(total > 1 ? "seeds" : "seed",
                total > 1 ? fmt::format("{} – {}", report.seed, report.seed + report.cases.size() - 1)
                          : std::to_string(report.seed));
  facts +=
      fact("time", duration(report.seconds) + (report.budget > 0.0 ? fmt::format(" of {:g} s", report.budget) : ""));
  if (!report.witnesses.empty()) {
    const auto disagree =
        std::count_if(report.witnesses.begin(), report.witnesses.end(), [](const auto& w) { return !w.ok; });
    facts += fact("witnesses", disagree == 0 ? "agree" : fmt::format("{} disagree", disagree), disagree > 0);
  }
  // The facts do not say why a check without a failed case has not passed.
  const std::string reason = report.passed() || failed > 0 ? "" : "<p>" + escaped(report.summary()) + "</p>\n";
  return fmt::format(
      "<header class=\"banner {}\">\n<div class=\"verdict\">{}</div>\n<h1>{}</h1>\n"
      "<div class=\"sub\">against {}</div>\n{}<dl class=\"facts\">{}</dl>\n</header>\n",
      report.passed() ? "passed" : "failed", report.passed() ? "passed" : "failed", escaped(report.candidate),
      escaped(report.reference), reason, facts);
}

// `<dt>name</dt><dd>html</dd>`, nothing where there is no html.
std::string entry(std::string_view name, const std::string& html) {
  return html.empty() ? "" : fmt::format("<dt>{}</dt><dd>{}</dd>\n", name, html);
}

std::string failure_details(const CaseReport& c) {
  std::string out = entry("tensor", escaped(c.tensor)) + entry("verdict", tag(verdict_words(c))) +
                    entry("first stage to differ", escaped(c.stage)) + entry("message", escaped(c.message));
  const Judgement* judgement = main_judgement(c);
  if (judgement == nullptr) {
    return out;
  }
  const Measure& measure = judgement->measure;
  out += entry("problem", escaped(judgement->problem));
  if (measure.worst.empty()) {
    return out;
  }
  out += entry("worst element", escaped(measure.worst));
  out += entry("value", fmt::format("{:.9g}, expected {:.9g}", measure.actual, measure.expected));
  out += entry("error", fmt::format("{} of the largest element, rms {}{}", short_number(measure.error),
                                    short_number(measure.rms_error),
                                    measure.ulp == INT64_MAX ? "" : fmt::format(", {} ulp", measure.ulp)));
  out += entry("limits", fmt::format("fine below {}, wrong above {}; the composed path at this dtype has {}{}",
                                     short_number(judgement->fine_limit), short_number(judgement->wrong_limit),
                                     short_number(judgement->composed), html::ruler(*judgement, 320.0)));
  return out;
}

std::string failure(const Failure& failure) {
  const CaseReport& smallest = failure.smallest;
  std::string details = entry("smallest case", code(smallest.text));
  if (smallest.text != failure.first.text) {
    details += entry("found in", fmt::format("{} <span class=\"sub\">({} simpler cases tried)</span>",
                                             code(failure.first.text), failure.tried));
  }
  details += failure_details(smallest);
  const std::string note = failure.note.empty() ? "" : "<p>" + escaped(failure.note) + "</p>\n";
  const std::string command =
      failure.command.empty() ? ""
                              : "<p class=\"sub\">To see it again:</p>\n<pre>" + escaped(failure.command) + "</pre>\n";
  return fmt::format(
      "<section class=\"failure\">\n<h2>First failure</h2>\n<p class=\"sub\">after {}; {} {} failed in all</p>\n"
      "<dl class=\"details\">{}</dl>\n{}</section>\n",
      duration(failure.seconds), failure.failing_cases, failure.failing_cases == 1 ? "case" : "cases", details,
      note + command);
}

// Map and profile of one case, side by side.
std::string place_plots(const CaseReport& c, std::string_view heading) {
  const std::string map = html::error_map_plot(c);
  const std::string profile = html::profile_plot(c);
  if (map.empty() && profile.empty()) {
    return "";
  }
  std::string out = fmt::format("<h3>{}</h3>\n<p class=\"sub\">{}</p>\n<div class=\"pair\">", heading, code(c.text));
  if (!map.empty()) {
    out += fmt::format("<figure><figcaption>{} by place</figcaption>{}</figure>", escaped(c.map->tensor), map);
  }
  if (!profile.empty()) {
    out += "<figure><figcaption>all tensors</figcaption>" + profile + "</figure>";
  }
  return out + "</div>\n";
}

const CaseReport* worst_case(const Report& report) {
  const CaseReport* worst = nullptr;
  for (const CaseReport& c : report.cases) {
    if (main_judgement(c) == nullptr) {
      continue;
    }
    // One with a map before others.
    if (worst == nullptr || c.map.has_value() > worst->map.has_value() ||
        (c.map.has_value() == worst->map.has_value() && is_worse(*main_judgement(c), *main_judgement(*worst)))) {
      worst = &c;
    }
  }
  return worst;
}

std::string where_section(const Report& report) {
  std::string content;
  if (report.failure) {
    content = place_plots(report.failure->first, "The first case that failed");
    if (report.failure->smallest.text != report.failure->first.text) {
      content += place_plots(report.failure->smallest, "The smallest case");
    }
  }
  const CaseReport* worst = content.empty() ? worst_case(report) : nullptr;
  if (worst != nullptr) {
    content = place_plots(*worst, "The case nearest to its limits");
  }
  return section("Where the error is",
                 "Errors are relative to the largest element of the reference. Blue is within the limit, orange to red "
                 "beyond it.",
                 content);
}

std::string tensor_section(const Report& report) {
  std::string rows;
  for (const TensorRow& row : tensor_rows(report)) {
    const Judgement& worst = *row.worst;
    const bool numbers = worst.problem.empty();
    rows += "<tr>" + cell("<b>" + escaped(row.tensor) + "</b>") + cell(tag(to_string(worst.verdict))) +
            number(row.comparisons) + number(row.wrong) + number(row.less_accurate) +
            (numbers ? number(worst.measure.error) : "<td class=\"n\">-</td>") + number(worst.composed) +
            number(worst.fine_limit) + number(worst.wrong_limit) + cell(html::ruler(worst, 130.0)) +
            words(numbers ? worst.measure.worst : worst.problem) + "</tr>\n";
  }
  return section("Tensors",
                 "The numbers are those of the comparison that comes nearest to its limits, or is farthest beyond.",
                 rows.empty() ? ""
                              : table({"tensor", "verdict", "#cases", "#wrong", "#less accurate", "#error", "#composed",
                                       "#fine below", "#wrong above", "", "where"},
                                      rows));
}

std::string witness_section(const Report& report) {
  std::string rows;
  for (const WitnessRow& row : witness_rows(report)) {
    rows += "<tr>" + cell("<b>" + escaped(row.witness) + "</b>") + cell(tag(row.failed == 0 ? "ok" : "disagrees")) +
            number(row.comparisons) + number(row.failed) + number(row.worst->error) + number(row.worst->limit) +
            cell(escaped(row.worst->tensor)) + "<td class=\"wide\">" + code(row.worst->text) + "</td></tr>\n";
  }
  std::string content =
      rows.empty()
          ? ""
          : table({"witness", "verdict", "#checks", "#failed", "#worst error", "#limit", "tensor", "case"}, rows);
  std::string failures;
  size_t count = 0;
  for (const WitnessReport& witness : report.witnesses) {
    if (!witness.ok && ++count <= kMostFailures) {
      failures += "<tr>" + words(witness.witness) + cell(escaped(witness.tensor)) + number(witness.error) +
                  number(witness.limit) + "<td class=\"wide\">" + code(witness.text) + "</td></tr>\n";
    }
  }
  if (count > 1) {
    content += "<h3>Checks that failed</h3>" + table({"witness", "tensor", "#error", "#limit", "case"}, failures);
  }
  return section(
      "Witnesses of the reference",
      "Independent ways to the reference's own numbers. Where one disagrees, no verdict here can be trusted.", content);
}

std::string case_row(const CaseReport& c) {
  const Judgement* judgement = main_judgement(c);
  std::string row = "<tr>" + cell(tag(c.status == Status::failed ? verdict_words(c) : to_string(c.status))) +
                    "<td class=\"wide\">" + code(c.text) + "</td>";
  if (judgement == nullptr) {
    row += "<td></td><td></td><td></td>" + words(c.message);
  } else {
    const bool numbers = judgement->problem.empty();
    std::string text = numbers ? judgement->measure.worst : judgement->problem;
    text += c.message.empty() ? "" : (text.empty() ? "" : "; ") + c.message;
    row += cell(escaped(judgement->tensor)) + (numbers ? number(judgement->measure.error) : "<td class=\"n\">-</td>") +
           number(judgement->fine_limit) + words(text);
  }
  return row + "<td class=\"n\">" + duration(c.seconds) + "</td></tr>\n";
}

std::string case_section(const Report& report) {
  if (report.cases.empty()) {
    return "";
  }
  std::vector<const CaseReport*> cases;
  for (const CaseReport& c : report.cases) {
    cases.push_back(&c);
  }
  std::stable_sort(cases.begin(), cases.end(), [](const CaseReport* a, const CaseReport* b) {
    return (a->status == Status::failed) > (b->status == Status::failed);
  });
  std::string rows;
  for (size_t i = 0; i < cases.size() && i < kMostCases; ++i) {
    rows += case_row(*cases[i]);
  }
  const std::string note = cases.size() > kMostCases
                               ? fmt::format(
                                     "<p class=\"note\">{} further cases are left out here; the JSON report has "
                                     "all.</p>",
                                     cases.size() - kMostCases)
                               : "";
  return "<section class=\"long\">\n<details>\n<summary>All cases</summary>\n<p class=\"sub\">Failed ones first. Each "
         "with the tensor that comes nearest to its limits.</p>\n" +
         table({"status", "case", "tensor", "#error", "#fine below", "where", "#time"}, rows) + note +
         "\n</details>\n</section>\n";
}

}  // namespace

std::string to_html(const Report& report) {
  std::string page = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
      "img-src data:\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<link rel=\"icon\" href=\"data:,\">\n<title>{}: {}</title>\n<style>{}</style>\n</head>\n<body>\n<main>\n",
      report.passed() ? "passed" : "failed", escaped(report.candidate), html::kStyle);
  page += banner(report);
  if (report.failure) {
    page += failure(*report.failure);
  }
  page += where_section(report);
  page +=
      section("Error by regime", "Every comparison of every tensor. Failures lie in front.", html::regime_plot(report));
  page += section("Passed and failed over the option space", "", html::option_space(report));
  page += tensor_section(report);
  page += witness_section(report);
  page += case_section(report);
  return page + "</main>\n</body>\n</html>\n";
}

}  // namespace deltatape::harness
