// Reading values of JSON files that people may have edited.
#pragma once

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "core/error.h"

namespace deltatape::tools {

/// What a JSON value must be for json_value<T>, in words.
template <class T>
constexpr const char* json_type_of() {
  if constexpr (std::is_same_v<T, bool>) {
    return "true or false";
  } else if constexpr (std::is_integral_v<T>) {
    return std::is_signed_v<T> ? "an integer" : "an integer of 0 or more";
  } else if constexpr (std::is_floating_point_v<T>) {
    return "a number";
  } else if constexpr (std::is_same_v<T, std::string>) {
    return "a string";
  } else if constexpr (std::is_same_v<T, nlohmann::json>) {
    return "an object";
  } else {
    return std::is_same_v<T, std::vector<std::string>> ? "a list of strings" : "a list of numbers";
  }
}

/// `value` as a T (bool, int64_t, uint64_t, double, std::string, a vector of the last two, or json for an object).
/// Throws Error, which names `function`, `file` and `key`, when it is of another type; no number is rounded or wrapped.
template <class T>
T json_value(std::string_view function, const std::string& file, const char* key, const nlohmann::json& value) {
  bool fits = true;
  if constexpr (std::is_same_v<T, bool>) {
    fits = value.is_boolean();
  } else if constexpr (std::is_integral_v<T>) {
    fits = value.is_number_unsigned() ? value.get<uint64_t>() <= static_cast<uint64_t>(std::numeric_limits<T>::max())
                                      : std::is_signed_v<T> && value.is_number_integer();
  } else if constexpr (std::is_floating_point_v<T>) {
    fits = value.is_number();
  } else if constexpr (std::is_same_v<T, nlohmann::json>) {
    fits = value.is_object();
  }
  if (fits) {
    try {
      return value.get<T>();
    } catch (const nlohmann::json::exception&) {
      fits = false;
    }
  }
  fail(function, "{}: '{}' is {}, expected {}", file, key, value.dump(), json_type_of<T>());
}

}  // namespace deltatape::tools
