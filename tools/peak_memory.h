// How much memory the process needed at most.
#pragma once

#include <cstdint>

namespace deltatape::tools {

/// Starts to watch when it is made. Linux only: elsewhere nothing is known.
class PeakMemory {
 public:
  PeakMemory();
  /// The most memory in use since, in bytes, beyond what was in use at the start; 0 where that is not known.
  [[nodiscard]] int64_t bytes() const;

 private:
  int64_t at_start_ = 0;
};

}  // namespace deltatape::tools
