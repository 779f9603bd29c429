// Every op with its tensors on a CUDA device gives what the CPU gives: in every dtype, in every memory layout, with
// broadcasting, on empty tensors; and refuses tensors on two devices.
#include <doctest/doctest.h>

#include "ops/convert.h"
#include "tests/gpu/device.h"
#include "tests/support/layouts.h"
#include "tests/support/sample_runs.h"

namespace deltatape::test {
namespace {

bool has_inputs(const OpSample& sample) { return !sample.inputs.empty(); }

TEST_CASE("op samples: cuda") {
  const std::string reason = cuda_unavailable_reason();
  if (!reason.empty()) {
    MESSAGE("skipped: " << reason);
    return;
  }
  const auto moved = [](const Tensors& tensors, Device device) {
    Tensors there;
    for (const Tensor& x : tensors) {
      there.push_back(x.defined() ? to(x.detach(), device) : x);
    }
    return there;
  };
  for_each_sample("cuda", has_inputs, [&](const OpSample& sample) {
    for (const DType dtype : {DType::f64, DType::f32, DType::bf16, DType::f16}) {
      if (sample.dtype_fixed && dtype != DType::f64) {
        continue;
      }
      CAPTURE(std::string(to_string(dtype)));
      const Tensors inputs = draw_inputs(sample, dtype);
      const Tensors upstream = draw_upstream(sample, sample.call(inputs));
      const Run host = run_with_gradients(sample, inputs, upstream);
      const Run device = run_with_gradients(sample, moved(inputs, Device::cuda()), moved(upstream, Device::cuda()));
      for (const Tensor& output : device.outputs) {
        CHECK_FALSE(output.device().is_cpu());
      }
      const Run back{moved(device.outputs, Device::cpu()), moved(device.gradients, Device::cpu())};
      check_same_run("cuda", sample, back, host, forward_tolerance(sample, dtype), gradient_tolerance(sample, dtype));
    }
  });
}

}  // namespace
}  // namespace deltatape::test
