#include "harness/space.h"

#include <doctest/doctest.h>

#include <set>

#include "tests/support/errors.h"

namespace deltatape {
namespace {

using harness::Settings;
using harness::Space;

Space small_space() {
  Space space;
  space.integer("T", "length", 0, 100, {63, 64, 65})
      .choice("gate", "kind", {"none", "standard"})
      .flag("norm", "normalised")
      .number("scale", "factor", {0.0, 0.5});
  return space;
}

TEST_CASE("harness: settings keep values by name and say what is wrong") {
  Settings settings;
  settings.set("T", int64_t{3});
  settings.set("gate", std::string("none"));
  settings.set("T", int64_t{4});
  CHECK(settings.text() == "T=4,gate=none");
  CHECK(settings.integer("T") == 4);
  CHECK_ERROR(settings.word("T"), "Settings: 'T' is 4, expected a word");
  CHECK_ERROR(settings.flag("norm"), "Settings: there is no 'norm', expected one of T=4,gate=none");
}

TEST_CASE("harness: a space draws every value of its axes, and the same for the same seed") {
  const Space space = small_space();
  std::set<int64_t> lengths;
  std::set<std::string> gates;
  int64_t normalised = 0;
  for (uint64_t seed = 0; seed < 400; ++seed) {
    const Settings settings = space.draw(seed);
    CHECK(settings == space.draw(seed));
    CHECK(settings.integer("seed") == static_cast<int64_t>(seed));
    lengths.insert(settings.integer("T"));
    gates.insert(settings.word("gate"));
    normalised += settings.flag("norm") ? 1 : 0;
  }
  CHECK(*lengths.begin() >= 0);
  CHECK(*lengths.rbegin() <= 100);
  CHECK(lengths.size() > 60);
  CHECK(lengths.count(64) == 1);
  CHECK(gates.size() == 2);
  CHECK(normalised > 150);
  CHECK(normalised < 250);
}

TEST_CASE("harness: a restricted space stays inside") {
  Space space = small_space();
  space.restrict("T=5..7,gate=standard");
  space.restrict("scale=0.5|2.25");
  std::set<std::string> drawn;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    const Settings settings = space.draw(seed);
    drawn.insert(harness::to_text(settings.at("T")) + " " + settings.word("gate") + " " +
                 harness::to_text(settings.at("scale")));
  }
  CHECK(drawn == std::set<std::string>{"5 standard 0.5", "5 standard 2.25", "6 standard 0.5", "6 standard 2.25",
                                       "7 standard 0.5", "7 standard 2.25"});
  CHECK_ERROR(space.restrict("K=3"), "Space::restrict: 'K' is no axis, expected one of T, gate, norm, scale");
  CHECK_ERROR(space.restrict("T=9..3"), "Space::restrict: T is '9..3', expected a range that is not empty");
  CHECK_ERROR(space.restrict("T=x"), "Space::restrict: T is 'x', expected an integer");
  CHECK_ERROR(space.restrict("gate=on"), "Space::restrict: gate is 'on', expected one of none, standard");
  CHECK_ERROR(space.restrict("norm=1"), "Space::restrict: norm is '1', expected yes or no");
  CHECK_ERROR(space.restrict("scale=inf"), "Space::restrict: scale is 'inf', expected a finite number");
  CHECK_ERROR(space.restrict("T"), "Space::restrict: 'T' is not NAME=VALUE");
}

TEST_CASE("harness: restrictions hold after mending, and while a case is made smaller") {
  Space space = small_space();
  space.repair([](Settings& settings) {
    if (settings.word("gate") == "none") {
      settings.set("norm", false);
    }
  });
  space.restrict("norm=yes,T=10..50");
  for (uint64_t seed = 0; seed < 50; ++seed) {
    CHECK(space.draw(seed).flag("norm"));
    CHECK(space.draw(seed).word("gate") == "standard");
  }
  for (const Settings& step : space.simpler(space.parse("T=30,gate=standard,norm=yes,scale=0.5"))) {
    CHECK(step.flag("norm"));
    CHECK(step.word("gate") == "standard");
    CHECK(step.integer("T") >= 10);
  }
  space.restrict("gate=none");
  CHECK_ERROR(space.draw(0), "Space::draw: no case has what was asked for of norm, T, gate all at once");
}

TEST_CASE("harness: a case's text leads back to it") {
  const Space space = small_space();
  for (uint64_t seed = 0; seed < 100; ++seed) {
    const Settings settings = space.draw(seed);
    CHECK(space.parse(space.text(settings)) == settings);
  }
  CHECK(space.text(space.parse("")) == "seed=0");
  CHECK(space.parse("norm=yes,T=3").text() == "seed=0,T=3,gate=none,norm=yes,scale=0");
  CHECK_ERROR(space.parse("T=3,T=4"), "Space::parse: 'T' is there twice");
  CHECK_ERROR(space.parse("seed=a"), "Space::parse: seed is 'a', expected an integer");
}

TEST_CASE("harness: simpler settings differ by one step, the boldest first, and are mended") {
  Space space = small_space();
  space.repair([](Settings& settings) {
    if (settings.word("gate") == "none") {
      settings.set("norm", false);
    }
  });
  const auto texts = [&](const std::string& text) {
    std::vector<std::string> result;
    for (const Settings& step : space.simpler(space.parse(text))) {
      result.push_back(space.text(step));
    }
    return result;
  };
  CHECK(texts("T=40") ==
        std::vector<std::string>{"seed=0", "seed=0,T=10", "seed=0,T=20", "seed=0,T=30", "seed=0,T=35", "seed=0,T=39"});
  CHECK(texts("gate=standard,norm=yes") == std::vector<std::string>{"seed=0", "seed=0,gate=standard"});
  CHECK(texts("").empty());
  CHECK(space.draw(1) == space.draw(1));
}

}  // namespace
}  // namespace deltatape
