// What every op refuses, word for word.
#include <doctest/doctest.h>

#include "tests/support/errors.h"
#include "tests/support/sample_runs.h"

namespace deltatape::test {
namespace {

TEST_CASE("op samples: bad input") {
  const auto wanted = [](const OpSample& sample) { return !sample.rejections.empty(); };
  for_each_sample("bad input", wanted, [](const OpSample& sample) {
    for (const Rejection& rejection : sample.rejections) {
      CHECK(error_of(rejection.call) == rejection.message);
    }
  });
}

}  // namespace
}  // namespace deltatape::test
