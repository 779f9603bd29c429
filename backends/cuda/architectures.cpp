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

/// Whether `f` says so of one of them.
template <class F>
bool any_of_words(std::string_view architectures, F&& f) {
  while (!architectures.empty()) {
    const size_t end = std::min(architectures.find(' '), architectures.size());
    if (f(architectures.substr(0, end))) {
      return true;
    }
    architectures.remove_prefix(std::min(end + 1, architectures.size()));
  }
  return false;
}

}  // namespace

bool runs_on(std::string_view architectures, int major, int minor) {
  return any_of_words(architectures, [&](std::string_view one) { return one_runs_on(one, major, minor); });
}

bool names_architecture(std::string_view architectures, std::string_view one) {
  return any_of_words(architectures, [&](std::string_view word) { return word == one; });
}

}  // namespace deltatape::cuda
