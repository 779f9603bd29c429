// The one exception type of the library, and the helper that every argument check goes through.
#pragma once

#include <fmt/core.h>

#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace deltatape {

/// Thrown for every error a caller can cause. The message is one sentence: function, argument, what came, what was
/// expected, as in `mul: b has shape [3], expected a shape that broadcasts with [2, 4]`. When a function of this
/// library throws Error, nothing that the caller can see has been changed.
class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message) : std::runtime_error(message) {}
};

/// Throws Error with the message `function: ` followed by the formatted text.
template <class... Args>
[[noreturn]] void fail(std::string_view function, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(fmt::format("{}: {}", function, fmt::format(format, std::forward<Args>(args)...)));
}

/// Throws Error as `fail` does unless `condition` holds.
template <class... Args>
void check(bool condition, std::string_view function, fmt::format_string<Args...> format, Args&&... args) {
  if (!condition) [[unlikely]] {
    fail(function, format, std::forward<Args>(args)...);
  }
}

}  // namespace deltatape
