#include "harness/space.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>

#include "core/error.h"
#include "harness/numbers.h"

namespace deltatape::harness {
namespace {

constexpr uint64_t kSettingsStream = 0x73706163;

std::vector<std::string> cut(const std::string& text, char at) {
  std::vector<std::string> parts;
  size_t begin = 0;
  for (size_t end = 0; end != std::string::npos; begin = end + 1) {
    end = text.find(at, begin);
    parts.push_back(text.substr(begin, end == std::string::npos ? end : end - begin));
  }
  return parts;
}

/// `name=value`, both not empty.
std::pair<std::string, std::string> assignment(const std::string& function, const std::string& text) {
  const size_t sign = text.find('=');
  check(sign != std::string::npos && sign > 0 && sign + 1 < text.size(), function, "'{}' is not NAME=VALUE", text);
  return {text.substr(0, sign), text.substr(sign + 1)};
}

Value parse_value(const std::string& function, const Axis& axis, const std::string& text) {
  struct Parser {
    const std::string& function;
    const Axis& axis;
    const std::string& text;
    Value operator()(bool) const {
      check(text == "yes" || text == "no", function, "{} is '{}', expected yes or no", axis.name, text);
      return text == "yes";
    }
    Value operator()(int64_t) const {
      const std::optional<int64_t> number = parse_integer(text);
      check(number.has_value(), function, "{} is '{}', expected an integer", axis.name, text);
      check(*number >= axis.least, function, "{} is {}, expected {} or more", axis.name, text, axis.least);
      check(*number <= axis.most, function, "{} is {}, expected at most {}", axis.name, text, axis.most);
      return number.value_or(0);
    }
    Value operator()(double) const {
      const std::optional<double> number = parse_number(text);
      check(number && std::isfinite(*number), function, "{} is '{}', expected a finite number", axis.name, text);
      return number.value_or(0.0);
    }
    Value operator()(const std::string&) const {
      check(axis.words.empty() || std::find(axis.words.begin(), axis.words.end(), text) != axis.words.end(), function,
            "{} is '{}', expected one of {}", axis.name, text, fmt::join(axis.words, ", "));
      return text;
    }
  };
  return std::visit(Parser{function, axis, text}, axis.simplest);
}

int64_t between(Generator& generator, int64_t low, int64_t high) {
  return low + static_cast<int64_t>(generator.next_below(static_cast<uint64_t>(high - low) + 1));
}

/// Nearer to `low`: itself, a quarter, half, three quarters, seven eighths of the way, one less; the boldest first.
std::vector<Value> smaller_integers(int64_t low, int64_t value) {
  std::vector<Value> steps;
  const int64_t way = value - low;
  for (const int64_t step : {low, low + way / 4, low + way / 2, low + way / 4 * 3, low + way / 8 * 7, value - 1}) {
    const bool seen = std::find(steps.begin(), steps.end(), Value(step)) != steps.end();
    if (step < value && step >= low && !seen) {
      steps.emplace_back(step);
    }
  }
  return steps;
}

template <class T>
std::vector<Value> earlier(const std::vector<T>& values, const Value& value) {
  std::vector<Value> result;
  for (const T& candidate : values) {
    if (Value(candidate) == value) {
      break;
    }
    result.emplace_back(candidate);
  }
  return result;
}

const Axis* find_axis(const std::vector<Axis>& axes, const std::string& name) {
  const auto found = std::find_if(axes.begin(), axes.end(), [&](const Axis& axis) { return axis.name == name; });
  return found == axes.end() ? nullptr : &*found;
}

const Axis& axis_of(const std::string& function, const std::vector<Axis>& axes, const std::string& name) {
  const Axis* axis = find_axis(axes, name);
  if (axis == nullptr) {
    std::vector<std::string> names;
    std::transform(axes.begin(), axes.end(), std::back_inserter(names), [](const Axis& a) { return a.name; });
    fail(function, "'{}' is no axis, expected one of {}", name, fmt::join(names, ", "));
  }
  return *axis;
}

}  // namespace

Space& Space::integer(std::string name, std::string help, int64_t low, int64_t high, std::vector<int64_t> favoured) {
  return axis({.name = std::move(name),
               .help = std::move(help),
               .simplest = low,
               .draw = [low, high, favoured = std::move(favoured)](Generator& generator, const Settings&) -> Value {
                 if (!favoured.empty() && generator.next_below(2) == 0) {
                   return favoured[generator.next_below(favoured.size())];
                 }
                 return between(generator, low, high);
               },
               .simpler = [low](const Value& value) { return smaller_integers(low, std::get<int64_t>(value)); },
               .least = low});
}

Space& Space::flag(std::string name, std::string help, double probability) {
  return axis({.name = std::move(name),
               .help = std::move(help),
               .simplest = false,
               .draw = [probability](Generator& generator, const Settings&) -> Value {
                 return generator.next_uniform() < probability;
               },
               .simpler =
                   [](const Value& value) {
                     return std::get<bool>(value) ? std::vector<Value>{false} : std::vector<Value>{};
                   }});
}

Space& Space::choice(std::string name, std::string help, std::vector<std::string> words) {
  check(!words.empty(), "Space::choice", "{} has no words, expected at least one", name);
  return axis({.name = std::move(name),
               .help = std::move(help),
               .simplest = words.front(),
               .draw = [words](Generator& generator, const Settings&) -> Value {
                 return words[generator.next_below(words.size())];
               },
               .simpler = [words](const Value& value) { return earlier(words, value); },
               .words = words});
}

Space& Space::number(std::string name, std::string help, std::vector<double> values) {
  check(!values.empty(), "Space::number", "{} has no values, expected at least one", name);
  return axis({.name = std::move(name),
               .help = std::move(help),
               .simplest = values.front(),
               .draw = [values](Generator& generator, const Settings&) -> Value {
                 return values[generator.next_below(values.size())];
               },
               .simpler = [values](const Value& value) { return earlier(values, value); }});
}

Space& Space::axis(Axis axis) {
  check(axis.name != "seed" && find_axis(axes_, axis.name) == nullptr, "Space::axis", "there is a '{}' already",
        axis.name);
  axes_.push_back(std::move(axis));
  return *this;
}

Space& Space::make(std::function<Case(const Settings&)> function) {
  make_ = std::move(function);
  return *this;
}

Space& Space::repair(std::function<void(Settings&)> function) {
  repair_ = std::move(function);
  return *this;
}

void Space::restrict(const std::string& text) {
  const std::string function = "Space::restrict";
  std::vector<Restriction> restrictions = restrictions_;
  for (const std::string& part : cut(text, ',')) {
    const auto [name, values] = assignment(function, part);
    const Axis& axis = axis_of(function, axes_, name);
    Restriction restriction{.axis = name};
    const size_t dots = values.find("..");
    if (dots != std::string::npos && std::holds_alternative<int64_t>(axis.simplest)) {
      restriction.low = std::get<int64_t>(parse_value(function, axis, values.substr(0, dots)));
      restriction.high = std::get<int64_t>(parse_value(function, axis, values.substr(dots + 2)));
      check(restriction.low <= restriction.high, function, "{} is '{}', expected a range that is not empty", name,
            values);
    } else {
      for (const std::string& value : cut(values, '|')) {
        restriction.values.push_back(parse_value(function, axis, value));
      }
    }
    std::erase_if(restrictions, [&](const Restriction& old) { return old.axis == restriction.axis; });
    restrictions.push_back(std::move(restriction));
  }
  restrictions_ = std::move(restrictions);
}

const Space::Restriction* Space::restriction_of(const Axis& axis) const {
  const auto found = std::find_if(restrictions_.begin(), restrictions_.end(),
                                  [&](const Restriction& restriction) { return restriction.axis == axis.name; });
  return found == restrictions_.end() ? nullptr : &*found;
}

Value Space::draw_axis(const Axis& axis, Generator& generator, const Settings& so_far) const {
  Value drawn = axis.draw(generator, so_far);
  const Restriction* restriction = restriction_of(axis);
  if (restriction == nullptr) {
    return drawn;
  }
  if (!restriction->values.empty()) {
    return restriction->values[generator.next_below(restriction->values.size())];
  }
  const int64_t number = std::get<int64_t>(drawn);
  const bool inside = number >= restriction->low && number <= restriction->high;
  return inside ? drawn : Value(between(generator, restriction->low, restriction->high));
}

bool Space::is_allowed(const Settings& settings) const {
  return std::all_of(axes_.begin(), axes_.end(), [&](const Axis& axis) {
    const Restriction* restriction = restriction_of(axis);
    if (restriction == nullptr) {
      return true;
    }
    const Value& value = settings.at(axis.name);
    if (!restriction->values.empty()) {
      return std::find(restriction->values.begin(), restriction->values.end(), value) != restriction->values.end();
    }
    const int64_t number = std::get<int64_t>(value);
    return number >= restriction->low && number <= restriction->high;
  });
}

Settings Space::draw(uint64_t seed) const {
  constexpr int kAttempts = 1000;  // mending may lead outside of what was asked for
  Generator generator(seed ^ kSettingsStream);
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    Settings settings;
    settings.set("seed", static_cast<int64_t>(seed));
    for (const Axis& axis : axes_) {
      settings.set(axis.name, draw_axis(axis, generator, settings));
    }
    if (repair_) {
      repair_(settings);
    }
    if (is_allowed(settings)) {
      return settings;
    }
  }
  std::string names;
  for (const Restriction& restriction : restrictions_) {
    names += (names.empty() ? "" : ", ") + restriction.axis;
  }
  fail("Space::draw", "no case has what was asked for of {} all at once", names);
}

Settings Space::parse(const std::string& text) const {
  const std::string function = "Space::parse";
  Settings given;
  for (const std::string& part : text.empty() ? std::vector<std::string>() : cut(text, ',')) {
    const auto [name, value] = assignment(function, part);
    check(!given.has(name), function, "'{}' is there twice", name);
    const Axis seed{.name = "seed",
                    .help = {},
                    .simplest = int64_t{0},
                    .draw = {},
                    .simpler = {},
                    .least = 0,
                    .most = std::numeric_limits<int64_t>::max()};
    given.set(name, parse_value(function, name == "seed" ? seed : axis_of(function, axes_, name), value));
  }
  Settings settings;
  settings.set("seed", given.has("seed") ? given.at("seed") : Value(int64_t{0}));
  for (const Axis& axis : axes_) {
    settings.set(axis.name, given.has(axis.name) ? given.at(axis.name) : axis.simplest);
  }
  if (repair_) {
    repair_(settings);
  }
  return settings;
}

std::string Space::text(const Settings& settings) const {
  Settings shown;
  shown.set("seed", settings.at("seed"));
  for (const Axis& axis : axes_) {
    if (settings.at(axis.name) != axis.simplest) {
      shown.set(axis.name, settings.at(axis.name));
    }
  }
  return shown.text();
}

std::vector<Value> Space::simpler_values(const Axis& axis, const Value& value) const {
  const Restriction* restriction = restriction_of(axis);
  if (restriction != nullptr && restriction->values.empty()) {
    return smaller_integers(restriction->low, std::get<int64_t>(value));
  }
  if (restriction != nullptr) {
    return earlier(restriction->values, value);
  }
  return axis.simpler ? axis.simpler(value) : std::vector<Value>();
}

std::vector<Settings> Space::simpler(const Settings& settings) const {
  std::vector<Settings> result;
  for (const Axis& axis : axes_) {
    for (const Value& value : simpler_values(axis, settings.at(axis.name))) {
      Settings step = settings;
      step.set(axis.name, value);
      if (repair_) {
        repair_(step);
      }
      // What is outside already, as a case by its text may be, is not held to the restrictions.
      const bool allowed = is_allowed(step) || !is_allowed(settings);
      if (allowed && step != settings && std::find(result.begin(), result.end(), step) == result.end()) {
        result.push_back(std::move(step));
      }
    }
  }
  return result;
}

Case Space::make(const Settings& settings) const {
  check(static_cast<bool>(make_), "Space::make", "the space has no function that makes cases");
  return make_(settings);
}

}  // namespace deltatape::harness
