// The table of docs/harness.md: what became of every known bug.
#pragma once

#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "tests/harness/known_bugs/known_bug.h"

namespace deltatape::known_bugs {

struct Score {
  KnownBug bug;
  bool flagged = false;
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
/// The names of the bugs for which the table in a file says that 2 seconds suffice. Throws as above, and when the table
/// has no row.
std::set<std::string> found_at_once(const std::filesystem::path& file);

}  // namespace deltatape::known_bugs
