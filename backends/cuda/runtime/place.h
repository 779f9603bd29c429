// Place: where in the source a call stands, for errors. clang 14 has no std::source_location.
#pragma once

#include <string>
#include <string_view>

namespace deltatape::cuda {

struct Place {
  const char* file;
  int line;

  /// As a default argument: the place of the call.
  static constexpr Place here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) { return {file, line}; }

  /// `fill_copy.cu:103`.
  [[nodiscard]] std::string text() const {
    std::string_view name = file;
    name.remove_prefix(name.rfind('/') + 1);  // npos + 1 is 0
    return std::string(name) + ":" + std::to_string(line);
  }
};

}  // namespace deltatape::cuda
