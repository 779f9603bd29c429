#include "tools/command.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <omp.h>

#include <algorithm>
#include <charconv>
#include <cmath>

namespace deltatape::tools {
namespace {

template <class Number>
bool parse(const std::string& text, Number& value) {
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  return error == std::errc() && stop == end;
}

}  // namespace

CLI::Validator integer_from(int64_t minimum) {
  return {[minimum](std::string& text) -> std::string {
            int64_t value = 0;
            if (parse(text, value) && value >= minimum) {
              return "";
            }
            return fmt::format("'{}' is not an integer of {} or more", text, minimum);
          },
          "", "integer"};
}

CLI::Validator integer_in(int64_t low, int64_t high) {
  return {[low, high](std::string& text) -> std::string {
            int64_t value = 0;
            if (parse(text, value) && value >= low && value <= high) {
              return "";
            }
            return fmt::format("'{}' is not an integer from {} to {}", text, low, high);
          },
          "", "integer"};
}

CLI::Validator share() {
  return {[](std::string& text) -> std::string {
            double value = 0.0;
            if (parse(text, value) && value > 0.0 && value <= 1.0) {
              return "";
            }
            return fmt::format("'{}' is not a number above 0 and at most 1", text);
          },
          "", "number"};
}

CLI::Validator number_in(double low, double high) {
  return {[low, high](std::string& text) -> std::string {
            double value = 0.0;
            if (parse(text, value) && value >= low && value <= high && std::isfinite(value)) {
              return "";
            }
            if (std::isfinite(high)) {
              return fmt::format("'{}' is not a number from {} to {}", text, low, high);
            }
            return fmt::format("'{}' is not a finite number of {} or more", text, low);
          },
          "", "number"};
}

CLI::Validator one_of(std::initializer_list<const char*> words) {
  const std::vector<std::string> allowed(words.begin(), words.end());
  return {[allowed](std::string& text) -> std::string {
            if (std::find(allowed.begin(), allowed.end(), text) != allowed.end()) {
              return "";
            }
            return fmt::format("'{}' is not one of {}", text, fmt::join(allowed, ", "));
          },
          "", "word"};
}

void set_threads(int64_t count) { omp_set_num_threads(static_cast<int>(count)); }

std::vector<std::string> split_at_commas(const std::string& text) {
  std::vector<std::string> parts;
  size_t start = 0;
  while (true) {
    const size_t comma = text.find(',', start);
    parts.push_back(text.substr(start, comma - start));
    if (comma == std::string::npos) {
      return parts;
    }
    start = comma + 1;
  }
}

}  // namespace deltatape::tools
