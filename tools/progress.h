// How far a long run is: a bar that redraws itself on a terminal, now and then a line elsewhere. All on stderr.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace deltatape::tools {

class Progress {
 public:
  enum class Unit : uint8_t { steps, percent };  // what is shown: `step 3/20`, or `15 %`
  /// Steps `first` to `total` - 1 are to come.
  Progress(int64_t first, int64_t total, Unit unit = Unit::steps);
  /// Ends the bar's line.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `done` steps are done; `text` says how they went.
  void update(int64_t done, const std::string& text);
  /// Makes room for other output on the terminal.
  void clear();

 private:
  using Clock = std::chrono::steady_clock;
  [[nodiscard]] std::string done_so_far(int64_t done) const;
  [[nodiscard]] std::string time_left(int64_t done, Clock::time_point now) const;

  int64_t first_;
  int64_t total_;
  Unit unit_;
  bool terminal_;
  bool drawn_ = false;
  Clock::time_point start_ = Clock::now();
  Clock::time_point last_ = start_;
};

}  // namespace deltatape::tools
