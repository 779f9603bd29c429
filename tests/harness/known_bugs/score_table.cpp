#include "tests/harness/known_bugs/score_table.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <sstream>
#include <stdexcept>

namespace deltatape::known_bugs {
namespace {

constexpr std::string_view kBegin = "<!-- mutation-score -->\n";
constexpr std::string_view kEnd = "<!-- /mutation-score -->\n";

/// A file in three parts: up to the first marker with it, the table, the rest from the second marker on.
struct Parts {
  std::string head;
  std::string table;
  std::string tail;
};
Parts read_parts(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
  const size_t begin = text.find(kBegin);
  const size_t end = text.find(kEnd);
  if (begin == std::string::npos || end == std::string::npos || end < begin) {
    throw std::runtime_error(
        fmt::format("{} lacks the lines '<!-- mutation-score -->' and '<!-- /mutation-score -->'", file.string()));
  }
  const size_t table = begin + kBegin.size();
  return {text.substr(0, table), text.substr(table, end - table), text.substr(end)};
}

/// A bar would end the cell, as Markdown reads it.
std::string cell(const std::string& text) {
  std::string safe;
  for (const char c : text) {
    safe += c == '|' ? "\\|" : std::string(1, c == '\n' ? ' ' : c);
  }
  return safe;
}

std::string code_or_dash(const std::string& text) { return text.empty() ? "-" : fmt::format("`{}`", cell(text)); }

}  // namespace

bool Score::right_tensor() const {
  return flagged && std::find(bug.tensors.begin(), bug.tensors.end(), tensor) != bug.tensors.end();
}

std::string Total::line() const {
  return fmt::format("known bugs: {} of {} flagged, {} right tensor, {} false alarms", flagged, bugs, right,
                     false_alarms);
}

bool Total::good() const { return flagged == bugs && 10 * right >= 9 * bugs && false_alarms == 0; }

Total total_of(const std::vector<Score>& scores, size_t false_alarms) {
  Total total;
  total.bugs = scores.size();
  total.false_alarms = false_alarms;
  for (const Score& score : scores) {
    total.flagged += score.flagged ? 1 : 0;
    total.right += score.right_tensor() ? 1 : 0;
  }
  return total;
}

std::string to_markdown(const std::vector<Score>& scores, const std::string& correct_kernels, const Total& total) {
  std::string text =
      "| bug | what is wrong | found after | 2 s suffice | tensor named | right ones | smallest case |\n"
      "|---|---|---|---|---|---|---|\n";
  for (const Score& score : scores) {
    text += fmt::format("| `{}` | {} | {} | {} | {}{} | {} | {} |\n", score.bug.name, cell(score.bug.about),
                        score.flagged ? fmt::format("{:.2f} s", score.seconds) : "not found",
                        score.at_once ? "yes" : "no", score.tensor.empty() ? "none" : score.tensor,
                        score.flagged && !score.right_tensor() ? " (wrong)" : "", fmt::join(score.bug.tensors, " "),
                        code_or_dash(score.smallest));
  }
  return fmt::format("{}\nCorrect kernels: {}.\n\n`{}`\n", text, correct_kernels, total.line());
}

void check_markers(const std::filesystem::path& file) { read_parts(file); }

void write_between_markers(const std::filesystem::path& file, const std::string& text) {
  const Parts parts = read_parts(file);
  std::ofstream stream(file, std::ios::binary);
  stream << parts.head << text << parts.tail;
  if (!stream.flush()) {
    throw std::runtime_error(fmt::format("{} cannot be written", file.string()));
  }
}

std::map<std::string, bool> read_table(const std::filesystem::path& file) {
  std::istringstream lines(read_parts(file).table);
  std::map<std::string, bool> rows;
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("| `")) {
      continue;
    }
    // `| name | about | found after | 2 s suffice | ...`: bars inside cells stand behind a backslash.
    std::vector<std::string> cells(1);
    for (size_t i = 0; i < line.size(); ++i) {
      if (line[i] == '|' && (i == 0 || line[i - 1] != '\\')) {
        cells.emplace_back();
      } else {
        cells.back() += line[i];
      }
    }
    if (cells.size() > 4) {
      rows[cells[1].substr(2, cells[1].size() - 4)] = cells[4] == " yes ";
    }
  }
  if (rows.empty()) {
    throw std::runtime_error(fmt::format("{} has no row of a known bug between the markers", file.string()));
  }
  return rows;
}

std::vector<std::string> quick_problems(const std::vector<Score>& scores, const std::map<std::string, bool>& table) {
  std::vector<std::string> problems;
  std::map<std::string, bool> rows_left = table;
  for (const Score& score : scores) {
    const auto row = table.find(score.bug.name);
    if (score.no_verdict) {
      problems.push_back(fmt::format("{}: no verdict ({})", score.bug.name, score.message));
    } else if (!score.flagged && row != table.end() && row->second) {
      problems.push_back(fmt::format("{}: not found, though the table says that 2 s suffice", score.bug.name));
    }
    if (row == table.end()) {
      problems.push_back(fmt::format("{}: there is an edit and no row in the table", score.bug.name));
    }
    rows_left.erase(score.bug.name);
  }
  for (const auto& row : rows_left) {
    problems.push_back(fmt::format("{}: there is a row in the table and no edit", row.first));
  }
  return problems;
}

}  // namespace deltatape::known_bugs
