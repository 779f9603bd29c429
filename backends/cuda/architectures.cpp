#include "backends/cuda/architectures.h"

#include <algorithm>
#include <charconv>

namespace deltatape::cuda {
namespace {

bool one_runs_on(std::string_view architecture, int major, int minor) {
  int number = 0;
  std::from_chars(architecture.data(), architecture.data() + architecture.size(), number);
  const bool only_that = architecture.ends_with('a');
  return number / 10 == major && (only_that ? number % 10 == minor : number % 10 <= minor);
}

}  // namespace

bool runs_on(std::string_view architectures, int major, int minor) {
  while (!architectures.empty()) {
    const size_t end = std::min(architectures.find(' '), architectures.size());
    if (one_runs_on(architectures.substr(0, end), major, minor)) {
      return true;
    }
    architectures.remove_prefix(std::min(end + 1, architectures.size()));
  }
  return false;
}

}  // namespace deltatape::cuda
