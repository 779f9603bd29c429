#include "harness/settings.h"

#include <algorithm>

#include "core/error.h"

namespace deltatape::harness {
namespace {

template <class T>
const T& value_of(const Settings& settings, std::string_view name, const char* kind) {
  const Value& value = settings.at(name);
  check(std::holds_alternative<T>(value), "Settings", "'{}' is {}, expected {}", name, to_text(value), kind);
  return std::get<T>(value);
}

}  // namespace

std::string to_text(const Value& value) {
  struct Writer {
    std::string operator()(bool flag) const { return flag ? "yes" : "no"; }
    std::string operator()(int64_t number) const { return std::to_string(number); }
    std::string operator()(double number) const { return fmt::format("{}", number); }
    std::string operator()(const std::string& word) const { return word; }
  };
  return std::visit(Writer{}, value);
}

void Settings::set(std::string_view name, Value value) {
  for (Entry& entry : entries_) {
    if (entry.first == name) {
      entry.second = std::move(value);
      return;
    }
  }
  entries_.emplace_back(std::string(name), std::move(value));
}

bool Settings::has(std::string_view name) const {
  return std::any_of(entries_.begin(), entries_.end(), [&](const Entry& entry) { return entry.first == name; });
}

const Value& Settings::at(std::string_view name) const {
  for (const Entry& entry : entries_) {
    if (entry.first == name) {
      return entry.second;
    }
  }
  fail("Settings", "there is no '{}', expected one of {}", name, text());
}

bool Settings::flag(std::string_view name) const { return value_of<bool>(*this, name, "yes or no"); }
int64_t Settings::integer(std::string_view name) const { return value_of<int64_t>(*this, name, "an integer"); }
double Settings::number(std::string_view name) const { return value_of<double>(*this, name, "a number"); }
const std::string& Settings::word(std::string_view name) const { return value_of<std::string>(*this, name, "a word"); }

std::string Settings::text() const {
  std::string text;
  for (const Entry& entry : entries_) {
    text += (text.empty() ? "" : ",") + entry.first + "=" + to_text(entry.second);
  }
  return text;
}

}  // namespace deltatape::harness
