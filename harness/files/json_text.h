// Reading JSON that may come from anywhere.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "core/error.h"

namespace deltatape::harness {

/// The object that `text` is. Throws Error that names `function` and `label`.
inline nlohmann::json parse_object(std::string_view function, const std::string& label, const std::string& text) {
  constexpr size_t kMost = size_t{64} << 20;
  check(text.size() <= kMost, function, "{} has {} bytes, expected at most {}", label, text.size(), kMost);
  nlohmann::json value;
  try {
    value = nlohmann::json::parse(text);
  } catch (const nlohmann::json::exception& error) {
    fail(function, "{} is not JSON: {}", label, error.what());
  }
  check(value.is_object(), function, "{} is a JSON {}, expected an object", label, value.type_name());
  return value;
}

/// The text under `key`. Throws Error that names `function`, `label` and the key when there is none.
inline std::string text_at(std::string_view function, const std::string& label, const nlohmann::json& object,
                           const char* key) {
  const auto found = object.find(key);
  check(found != object.end() && found->is_string(), function, "{} has no text under '{}'", label, key);
  return found->get<std::string>();
}

}  // namespace deltatape::harness
