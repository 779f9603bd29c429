// SIGINT and SIGTERM as a question that a long run answers when it can.
#pragma once

#include <csignal>

namespace deltatape::tools {

/// While it lives, the first SIGINT or SIGTERM only asks to stop; a second one ends the program. One at a time.
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;
  [[nodiscard]] bool asked() const;

 private:
  struct sigaction old_interrupt_ {};
  struct sigaction old_terminate_ {};
};

}  // namespace deltatape::tools
