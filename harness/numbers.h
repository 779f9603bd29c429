// Numbers from text, all of it and nothing else.
#pragma once

#include <charconv>
#include <cstdint>
#include <optional>
#include <string>

namespace deltatape::harness {

template <class T>
std::optional<T> parse_all(const std::string& text) {
  T value{};
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  return error == std::errc() && stop == end && !text.empty() ? std::optional<T>(value) : std::nullopt;
}

inline std::optional<int64_t> parse_integer(const std::string& text) { return parse_all<int64_t>(text); }
inline std::optional<double> parse_number(const std::string& text) { return parse_all<double>(text); }

}  // namespace deltatape::harness
