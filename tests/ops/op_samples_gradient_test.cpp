// First and second derivatives of every differentiable op against central differences.
#include <doctest/doctest.h>

#include "autograd/gradcheck.h"
#include "tests/support/sample_runs.h"

namespace deltatape::test {
namespace {

TEST_CASE("op samples: gradcheck") {
  const auto wanted = [](const OpSample& sample) { return sample.differentiable && !sample.dtype_fixed; };
  for_each_sample("gradcheck", wanted, [](const OpSample& sample) {
    const GradcheckReport report = gradcheck(sample.call, draw_inputs(sample, DType::f64));
    CHECK_MESSAGE(report.ok, report.text());
    CHECK_FALSE(report.inputs.empty());
  });
}

TEST_CASE("op samples: gradgradcheck") {
  const auto wanted = [](const OpSample& sample) { return sample.twice_differentiable && !sample.dtype_fixed; };
  for_each_sample("gradgradcheck", wanted, [](const OpSample& sample) {
    const GradcheckReport report = gradgradcheck(sample.call, draw_inputs(sample, DType::f64));
    CHECK_MESSAGE(report.ok, report.text());
    CHECK_FALSE(report.inputs.empty());
  });
}

}  // namespace
}  // namespace deltatape::test
