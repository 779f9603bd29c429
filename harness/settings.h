// What was drawn for a case: named values, and their text form, which a person can paste back.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace deltatape::harness {

using Value = std::variant<bool, int64_t, double, std::string>;

/// `yes`/`no`, a number with all its digits, or the word itself.
std::string to_text(const Value& value);

/// Values by name, in the order in which they were set.
class Settings {
 public:
  using Entry = std::pair<std::string, Value>;

  /// Sets or replaces.
  void set(std::string_view name, Value value);
  [[nodiscard]] bool has(std::string_view name) const;
  /// The value of this name. Each throws Error that names it when there is none, or one of another type.
  [[nodiscard]] const Value& at(std::string_view name) const;
  [[nodiscard]] bool flag(std::string_view name) const;
  [[nodiscard]] int64_t integer(std::string_view name) const;
  [[nodiscard]] double number(std::string_view name) const;
  [[nodiscard]] const std::string& word(std::string_view name) const;
  [[nodiscard]] const std::vector<Entry>& entries() const { return entries_; }
  /// `seed=7,T=3,gate=standard`.
  [[nodiscard]] std::string text() const;
  friend bool operator==(const Settings&, const Settings&) = default;

 private:
  std::vector<Entry> entries_;
};

}  // namespace deltatape::harness
