#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "harness/report/html/plots.h"
#include "harness/report/markup.h"

namespace deltatape::harness::html {
namespace {

constexpr size_t kMostValues = 12;  // of a number; more are put together
constexpr size_t kBins = 8;
constexpr size_t kMostWords = 60;
constexpr double kStandsOut = 1.4;

using Status = CaseReport::Status;

// One value, or neighbouring values, and what became of its cases.
struct Cell {
  Value low;
  Value high;
  int64_t passed = 0;
  int64_t failed = 0;
  int64_t unsupported = 0;

  [[nodiscard]] int64_t count() const { return passed + failed + unsupported; }
  [[nodiscard]] std::string name() const { return low == high ? to_text(low) : to_text(low) + " – " + to_text(high); }
};

struct Row {
  std::string name;
  std::vector<std::pair<Value, Status>> entries;
};

std::vector<Row> rows_of(const Report& report) {
  std::vector<Row> rows;
  for (const CaseReport& c : report.cases) {
    for (const auto& [name, value] : c.settings.entries()) {
      if (name == "seed") {
        continue;
      }
      const std::string& wanted = name;
      auto found = std::find_if(rows.begin(), rows.end(), [&](const Row& row) { return row.name == wanted; });
      if (found == rows.end()) {
        rows.push_back({name, {}});
        found = rows.end() - 1;
      }
      found->entries.emplace_back(value, c.status);
    }
  }
  return rows;
}

bool is_number(const Value& value) {
  return std::holds_alternative<int64_t>(value) || std::holds_alternative<double>(value);
}

void add(Cell& cell, Status status) {
  cell.passed += status == Status::passed ? 1 : 0;
  cell.failed += status == Status::failed ? 1 : 0;
  cell.unsupported += status == Status::unsupported ? 1 : 0;
}

// A cell per value, in order; numbers with many values in kBins groups of about as many cases.
std::vector<Cell> cells_of(Row& row) {
  std::stable_sort(row.entries.begin(), row.entries.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<Cell> cells;
  for (const auto& [value, status] : row.entries) {
    if (cells.empty() || !(cells.back().low == value)) {
      cells.push_back({value, value});
    }
    add(cells.back(), status);
  }
  if (cells.size() <= kMostValues || !is_number(cells.front().low)) {
    return cells;
  }
  std::vector<Cell> bins;
  const auto total = static_cast<int64_t>(row.entries.size());
  int64_t done = 0;
  int64_t last = -1;
  for (const Cell& cell : cells) {
    const int64_t bin = done * static_cast<int64_t>(kBins) / total;
    if (bin != last) {
      bins.push_back({cell.low, cell.high});
      last = bin;
    }
    Cell& into = bins.back();
    into.high = cell.high;
    into.passed += cell.passed;
    into.failed += cell.failed;
    into.unsupported += cell.unsupported;
    done += cell.count();
  }
  return bins;
}

std::string bar(const Cell& cell) {
  const double total = static_cast<double>(cell.count());
  std::string parts;
  double x = 0.0;
  for (const auto& [count, css] : {std::pair{cell.passed, "bar-passed"}, std::pair{cell.failed, "bar-failed"},
                                   std::pair{cell.unsupported, "bar-unsupported"}}) {
    const double width = 100.0 * static_cast<double>(count) / total;
    if (count > 0) {
      parts += fmt::format(R"(<rect class="{}" x="{:.4g}" width="{:.4g}" height="8"/>)", css, x, width);
    }
    x += width;
  }
  return fmt::format(R"(<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">{}</svg>)",
                     parts);
}

// A value that fails clearly more often than all cases do stands out.
std::string cell_element(const Cell& cell, double failing_share) {
  std::string counts = std::to_string(cell.passed) + " passed";
  counts += cell.failed > 0 ? fmt::format(", <b>{} failed</b>", cell.failed) : "";
  counts += cell.unsupported > 0 ? fmt::format(", {} unsupported", cell.unsupported) : "";
  const bool bad = static_cast<double>(cell.failed) > kStandsOut * failing_share * static_cast<double>(cell.count());
  return fmt::format(R"(<li{}><span class="value">{}</span>{}<span class="counts">{}</span></li>)",
                     bad ? " class=\"bad\"" : "", escaped(cell.name()), bar(cell), counts);
}

// Values that every failing case has and few others have: often the cause. Empty when there is none.
std::string common_to_failures(std::vector<Row>& rows, int64_t failed) {
  std::string list;
  for (Row& row : rows) {
    const Value* value = nullptr;
    bool same = true;
    int64_t with = 0;
    for (const auto& [candidate, status] : row.entries) {
      if (status == Status::failed) {
        same = same && (value == nullptr || *value == candidate);
        value = &candidate;
        ++with;
      }
    }
    if (value == nullptr || !same || with != failed) {
      continue;
    }
    int64_t passed = 0;
    int64_t passed_with = 0;
    for (const auto& [candidate, status] : row.entries) {
      passed += status == Status::passed ? 1 : 0;
      passed_with += status == Status::passed && candidate == *value ? 1 : 0;
    }
    if (2 * passed_with < passed) {
      list += fmt::format("{}<code>{}={}</code> ({} of {} passing cases)", list.empty() ? "" : ", ", escaped(row.name),
                          escaped(to_text(*value)), passed_with, passed);
    }
  }
  return list.empty() ? "" : "<p>All failing cases have " + list + ".</p>";
}

}  // namespace

std::string option_space(const Report& report) {
  auto rows = rows_of(report);
  std::string out;
  const int64_t failed = report.count(Status::failed);
  const double failing_share =
      report.cases.empty() ? 0.0 : static_cast<double>(failed) / static_cast<double>(report.cases.size());
  if (failed > 1) {
    out += common_to_failures(rows, failed);
  }
  std::string fixed;
  std::string list;
  for (Row& row : rows) {
    const auto cells = cells_of(row);
    if (cells.size() < 2) {
      fixed += fmt::format("{}<code>{}={}</code>", fixed.empty() ? "" : ", ", escaped(row.name),
                           escaped(cells.front().name()));
      continue;
    }
    list += fmt::format("<div class=\"option\"><dt>{}</dt><dd><ul class=\"cells\">", escaped(row.name));
    for (size_t i = 0; i < cells.size() && i < kMostWords; ++i) {
      list += cell_element(cells[i], failing_share);
    }
    list += "</ul>";
    list += cells.size() > kMostWords
                ? fmt::format("<p class=\"note\">{} further values are left out.</p>", cells.size() - kMostWords)
                : "";
    list += "</dd></div>";
  }
  out += list.empty() ? "" : "<dl class=\"options\">" + list + "</dl>";
  out += fixed.empty() ? "" : "<p class=\"note\">The same in all cases: " + fixed + ".</p>";
  return out;
}

}  // namespace deltatape::harness::html
