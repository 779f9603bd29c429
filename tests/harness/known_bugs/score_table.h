// The table of docs/harness.md: what became of every known bug.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "tests/harness/known_bugs/known_bug.h"

namespace deltatape::known_bugs {

struct Score {
  KnownBug bug;
  bool flagged = false;
  bool no_verdict = false;    // the program said nothing about it; `message` says why
  bool at_once = false;       // within a second from each of several seeds
  double seconds = 0.0;       // to the end of the first case that failed
  std::string tensor = {};    // that was named
  std::string smallest = {};  // the case
  std::string message = {};   // of a run without a verdict, or of a fault

  [[nodiscard]] bool right_tensor() const;
};

struct Total {
  size_t bugs = 0;
  size_t flagged = 0;
  size_t right = 0;
  size_t false_alarms = 0;

  /// `known bugs: N of M flagged, K right tensor, F false alarms`.
  [[nodiscard]] std::string line() const;
  /// All flagged, the right tensor named for nine of ten, no false alarm.
  [[nodiscard]] bool good() const;
};
Total total_of(const std::vector<Score>& scores, size_t false_alarms);

/// In Markdown, a row per bug, then a line for the correct kernels and the total.
std::string to_markdown(const std::vector<Score>& scores, const std::string& correct_kernels, const Total& total);

/// Throws std::runtime_error that names the file when it lacks one of the lines `<!-- mutation-score -->` and
/// `<!-- /mutation-score -->`.
void check_markers(const std::filesystem::path& file);
/// Puts `text` between these lines of a file. Throws as check_markers.
void write_between_markers(const std::filesystem::path& file, const std::string& text);
/// The names in the table of a file, and whether 2 seconds suffice for each. Throws as above, and when the table has no
/// row.
std::map<std::string, bool> read_table(const std::filesystem::path& file);

/// A sentence for each reason why a quick run over all bugs is no success: a bug without a verdict, one that was not
/// found where the table says that 2 seconds suffice, an edit without a row, a row without an edit.
std::vector<std::string> quick_problems(const std::vector<Score>& scores, const std::map<std::string, bool>& table);

}  // namespace deltatape::known_bugs
