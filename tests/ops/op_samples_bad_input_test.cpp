// What every op refuses, word for word.
#include <doctest/doctest.h>

#include "core/error.h"
#include "tests/support/sample_runs.h"

namespace deltatape::test {
namespace {

std::string message_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "(no error)";
}

TEST_CASE("op samples: bad input") {
  const auto wanted = [](const OpSample& sample) { return !sample.rejections.empty(); };
  for_each_sample("bad input", wanted, [](const OpSample& sample) {
    for (const Rejection& rejection : sample.rejections) {
      CHECK(message_of(rejection.call) == rejection.message);
    }
  });
}

}  // namespace
}  // namespace deltatape::test
