// The example plugin in C against the recurrence on the tape.
#ifdef DELTATAPE_MY_KDA

#include <doctest/doctest.h>
#include <fmt/format.h>

#include "harness/kda/kda.h"
#include "harness/plugin/plugin.h"
#include "ops/convert.h"
#include "tests/support/compare.h"
#include "tests/tools/run_program.h"

using namespace deltatape;
using namespace deltatape::harness;

TEST_CASE("examples/plugin/my_kda.c: outputs and gradients of the recurrence; what it does not do it says") {
  if (test::program_path().empty()) {
    MESSAGE("DELTATAPE_PROGRAM is not set: not tested");
    return;
  }
  const Candidate candidate = plugin_candidate(DELTATAPE_MY_KDA, {.worker = test::program_path()});
  CHECK(candidate.name == "my_kda");
  const Reference reference = kda_reference();
  const Space space = kda_space();
  for (const std::string text :
       {"T=1,K=1,V=1", "T=5,K=4,V=3", "T=20,B=2,H=2,group=3,K=5,V=6", "T=9,K=4,V=4,h0=yes,ht=yes",
        "T=30,H=2,group=2,K=4,V=7,h0=yes,ht=yes,packing=cu_seqlens,pieces=5,decay=mixed,scale=3", "T=0,h0=yes,ht=yes",
        "T=12,K=3,V=3,ht=yes,loss=none"}) {
    for (const char* dtype : {"f64", "f32"}) {
      const char* loss = text.find("loss") == std::string::npos ? ",loss=both" : "";
      const Case c = space.make(space.parse(fmt::format("{},seed=5,dtype={}{}", text, dtype, loss)));
      const Answer answer = candidate.run(c);
      CHECK(answer.message.empty());
      REQUIRE(answer.status == Answer::Status::answered);
      const NamedTensors expected = run_on_tape(reference.forward, widened(c));
      CHECK(answer.results.size() == expected.size());
      for (const auto& [name, tensor] : expected) {
        // It computes in f64 and rounds once; sums of up to 30 tokens in another order than the tape's.
        const Tensor result = find(answer.results, name);
        REQUIRE(result.defined());
        test::check_close(fmt::format("{} {}", text, name), result, to(tensor, c.dtype),
                          test::rounding(c.dtype, 200.0));
      }
    }
  }
  for (const char* text : {"T=3,gate=standard", "T=3,l2norm=yes,K=2", "T=3,beta_sigmoid=yes", "T=3,dtype=bf16",
                           "T=3,v_first=yes", "T=3,packing=segment_ids"}) {
    CAPTURE(text);
    CHECK(candidate.run(space.make(space.parse(text))).status == Answer::Status::unsupported);
  }
}

#endif
