// The space that cases are drawn from: axes with values, restricted by the user, walked towards simpler cases.
#pragma once

#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "core/generator.h"
#include "harness/case.h"

namespace deltatape::harness {

/// One thing that varies from case to case.
struct Axis {
  std::string name;
  std::string help;  // in a few words
  Value simplest;    // where shrinking ends; what a case that does not name the axis gets. Its type is the axis' type
  std::function<Value(Generator&, const Settings& so_far)> draw;
  std::function<std::vector<Value>(const Value&)> simpler;  // than this value, the boldest step first
  int64_t least = std::numeric_limits<int64_t>::min();      // that an integer may be
  int64_t most = 1'000'000'000;                             // so that a product of two is still one
  std::vector<std::string> words = {};                      // all that a word may be; empty: any
};

class Space {
 public:
  /// Integers in [low, high]: half of the draws are among `favoured`, if there are any. Simplest: `low`.
  Space& integer(std::string name, std::string help, int64_t low, int64_t high, std::vector<int64_t> favoured = {});
  /// yes with this probability. Simplest: no.
  Space& flag(std::string name, std::string help, double probability = 0.5);
  /// One of these words, evenly. Simplest: the first.
  Space& choice(std::string name, std::string help, std::vector<std::string> words);
  /// One of these numbers, evenly. Simplest: the first.
  Space& number(std::string name, std::string help, std::vector<double> values);
  /// An axis of any other kind. Axes are drawn in the order in which they were added.
  Space& axis(Axis axis);
  /// Makes the tensors of a case: the same settings give the same tensors. Settings hold `seed` and every axis.
  Space& make(std::function<Case(const Settings&)> function);
  /// Called on everything that was drawn, parsed or made simpler: mends combinations that make no sense.
  Space& repair(std::function<void(Settings&)> function);

  /// Lets axes take these values only: `T=1..130,K=8|16|100,gate=standard`. Throws Error that names the axis.
  void restrict(const std::string& text);
  /// The case of this seed. Throws Error when what the axes were restricted to does not go together.
  [[nodiscard]] Settings draw(uint64_t seed) const;
  /// `seed=7,T=3`: axes that are not named take their simplest value. Throws Error that names what is wrong.
  [[nodiscard]] Settings parse(const std::string& text) const;
  /// The settings that differ from the simplest ones, for parse.
  [[nodiscard]] std::string text(const Settings& settings) const;
  /// Settings that are simpler by one step, the boldest first, as far as restrictions allow; never `settings` itself.
  [[nodiscard]] std::vector<Settings> simpler(const Settings& settings) const;
  /// The tensors.
  [[nodiscard]] Case make(const Settings& settings) const;
  [[nodiscard]] const std::vector<Axis>& axes() const { return axes_; }

 private:
  /// What restrict said of an axis: single values, or integers from `low` to `high`.
  struct Restriction {
    std::string axis;
    std::vector<Value> values = {};
    int64_t low = 0;
    int64_t high = 0;
  };
  [[nodiscard]] const Restriction* restriction_of(const Axis& axis) const;
  [[nodiscard]] bool is_allowed(const Settings& settings) const;
  [[nodiscard]] std::vector<Value> simpler_values(const Axis& axis, const Value& value) const;
  [[nodiscard]] Value draw_axis(const Axis& axis, Generator& generator, const Settings& so_far) const;

  std::vector<Axis> axes_;
  std::vector<Restriction> restrictions_;
  std::function<Case(const Settings&)> make_;
  std::function<void(Settings&)> repair_;
};

}  // namespace deltatape::harness
