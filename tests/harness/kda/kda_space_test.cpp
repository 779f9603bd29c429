#include <doctest/doctest.h>

#include <cmath>
#include <map>
#include <set>

#include "harness/kda/kda.h"
#include "ops/kda/inputs.h"

namespace deltatape {
namespace {

using harness::Case;
using harness::Settings;
using harness::Space;

TEST_CASE("harness: every drawn case of KDA is one that the operator takes [slow]") {
  const Space space = harness::kda_space();
  for (uint64_t seed = 0; seed < 300; ++seed) {
    const Settings settings = space.draw(seed);
    CAPTURE(space.text(settings));
    const Case c = space.make(settings);
    CHECK_NOTHROW(kda::check_inputs("test", harness::kda_inputs(c.inputs), harness::kda_options(settings)));
    const Case again = space.make(settings);
    REQUIRE(again.inputs.size() == c.inputs.size());
    for (size_t i = 0; i < c.inputs.size(); ++i) {
      CHECK(again.inputs[i].second.to_vector<double>() == c.inputs[i].second.to_vector<double>());
    }
  }
}

TEST_CASE("harness: cases of KDA cover the options and the hard regimes [slow]") {
  const Space space = harness::kda_space();
  std::map<std::string, std::set<std::string>> seen;
  bool gate_of_zero = false;
  bool one_token = false;
  bool no_token = false;
  bool odd_width = false;
  for (uint64_t seed = 0; seed < 600; ++seed) {
    const Settings settings = space.draw(seed);
    for (const auto& entry : settings.entries()) {
      seen[entry.first].insert(harness::to_text(entry.second));
    }
    odd_width = odd_width || (settings.integer("K") & (settings.integer("K") - 1)) != 0;
    const Tensor bounds = harness::find(space.make(settings).inputs, "cu_seqlens");
    if (bounds.defined()) {
      const auto ends = bounds.to_vector<int64_t>();
      for (size_t i = 1; i < ends.size(); ++i) {
        one_token = one_token || ends[i] - ends[i - 1] == 1;
        no_token = no_token || ends[i] == ends[i - 1];
      }
    }
    gate_of_zero = gate_of_zero || (settings.word("gate") == "none" && settings.word("decay") == "none");
  }
  for (const harness::Axis& axis : space.axes()) {
    CAPTURE(axis.name);
    CHECK(seen[axis.name].size() >= (axis.words.empty() ? 2 : axis.words.size()));
  }
  CHECK(gate_of_zero);
  CHECK(one_token);
  CHECK(no_token);
  CHECK(odd_width);
  for (const char* length : {"0", "1", "63", "64", "65", "127", "129"}) {
    CHECK(seen["T"].count(length) == 1);
  }
}

TEST_CASE("harness: combinations that mean nothing are mended") {
  const Space space = harness::kda_space();
  const auto mended = [&](const std::string& text) { return space.text(space.parse(text)); };
  CHECK(mended("B=3,packing=cu_seqlens,pieces=2") == "seed=0,packing=cu_seqlens,pieces=2");
  CHECK(mended("gate=none,A_log=yes,dt_bias=yes,lower_bound=-1") == "seed=0");
  CHECK(mended("gate=standard,safe_gate=yes") == "seed=0,gate=standard,A_log=yes");
  CHECK(mended("gate=lower-bound,lower_bound=-20,safe_gate=yes") == "seed=0,gate=lower-bound,lower_bound=-20");
  CHECK(mended("neg_eigval=yes") == "seed=0");
  CHECK(mended("l2norm=yes") == "seed=0");  // K = 1
  CHECK(mended("K=2,norms=huge") == "seed=0,K=2");
  CHECK(mended("loss=both") == "seed=0");
}

TEST_CASE("harness: 16 bits keep parameters and states wide") {
  const Space space = harness::kda_space();
  const Case c = space.make(space.parse("dtype=bf16,T=5,K=3,V=2,gate=standard,dt_bias=yes,h0=yes,ht=yes,loss=both"));
  for (const auto& [name, tensor] : c.inputs) {
    const bool wide = name == "A_log" || name == "dt_bias" || name == "h0";
    CHECK(tensor.dtype() == (wide ? DType::f32 : DType::bf16));
  }
  CHECK(harness::find(c.upstream, "o").dtype() == DType::bf16);
  CHECK(harness::find(c.upstream, "ht").dtype() == DType::f32);
}

}  // namespace
}  // namespace deltatape
