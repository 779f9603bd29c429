// A tensor on a device that is freed after main, when the thread's own objects are gone: under a sanitizer this program
// must end without a report.
#include <doctest/doctest.h>

#include "ops/creation.h"
#include "ops/reduction.h"

namespace deltatape::test {
namespace {

// Older than whatever freeing it needs, and so destroyed after it.
Tensor last_tensor;  // NOLINT(cppcoreguidelines-avoid-non-const-global-variables): what the case is about

TEST_CASE("tensor: one with static storage duration may be on a device") {
  last_tensor = ones({1000}, {DType::f32, Device::cuda()});
  CHECK(sum(last_tensor).item() == 1000.0);
}

}  // namespace
}  // namespace deltatape::test
