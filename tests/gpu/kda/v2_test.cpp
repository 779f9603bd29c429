// Whole calls of v2, forward and backward: against the CPU's kernels in f64 on the same bf16 numbers, and against v1.
#include <doctest/doctest.h>

#include <array>
#include <random>

#include "backends/cuda/kda/v1/backward.h"
#include "backends/cuda/kda/v1/forward.h"
#include "backends/cuda/kda/v2/kernels.h"
#include "backends/cuda/runtime/device.h"
#include "ops/convert.h"
#include "tests/gpu/device.h"
#include "tests/gpu/kda/version_call.h"

namespace deltatape::test {
namespace {

namespace v1 = cuda::kda::v1;
namespace v2 = cuda::kda::v2;

bool runs_here() {
  if (!have_device()) {
    return false;
  }
  const kda::KernelProblem any = bf16_call({.T = 70, .K = 64, .V = 64}, {}).problem;
  const std::string reason = v2::why_not(any, DType::bf16, Device::cuda());
  if (!reason.empty()) {
    MESSAGE("skipped: " << reason);
  }
  return reason.empty();
}

TEST_CASE("kda v2 call: the CPU's results [gpu]") {
  if (!runs_here()) {
    return;
  }
  const KDAShape shape{.B = 2, .T = 70, .H = 2, .HV = 4, .K = 64, .V = 64};
  check_v2(bf16_call(shape, {.output_final_state = true, .output_h = true}));
  check_v2(bf16_call(shape, {.output_final_state = true, .output_h = true, .state_v_first = true}, 2, Decay::mixed),
           false);
  check_v2(bf16_call(shape, {.scale = 0.5, .use_qk_l2norm = true}, 4, Decay::mild, false));
  for (const kda::Gate gate : {kda::Gate::standard, kda::Gate::lower_bound}) {
    kda::Options options{.use_qk_l2norm = true, .use_beta_sigmoid = true, .allow_neg_eigval = true};
    options.gate = gate;
    check_v2(bf16_call({.T = 100, .HV = 2, .K = 128, .V = 128}, options, 5), gate == kda::Gate::standard);
  }
}

TEST_CASE("kda v2 call: sequences, empty ones among them [gpu]") {
  if (!runs_here()) {
    return;
  }
  const KDAShape shape{.T = 140, .H = 1, .HV = 2, .K = 128, .V = 64, .lengths = {0, 70, 1, 0, 64, 5}};
  check_v2(bf16_call(shape, {.output_final_state = true, .output_h = true}));
}

TEST_CASE("kda v2 call: random draws over the options [gpu]") {
  if (!runs_here()) {
    return;
  }
  std::mt19937_64 random(3);
  const auto draw = [&](int count) { return static_cast<int>(random() % static_cast<uint64_t>(count)); };
  const std::array decays{Decay::mild, Decay::bounded, Decay::mixed, Decay::resets};
  for (uint64_t seed = 0; seed < 8; ++seed) {
    KDAShape shape{.B = 1, .T = 0, .H = 1 + draw(2), .K = 64 << draw(2), .V = 64 << draw(2)};
    shape.HV = shape.H * (1 + draw(2));
    for (int n = 1 + draw(3); n > 0; --n) {
      shape.lengths.push_back(1 + draw(140));
      shape.T += shape.lengths.back();
    }
    kda::Options options;
    options.gate =
        std::array{kda::Gate::none, kda::Gate::standard, kda::Gate::lower_bound}[static_cast<size_t>(draw(3))];
    options.use_qk_l2norm = draw(2) == 0;
    options.use_beta_sigmoid = draw(2) == 0;
    options.output_final_state = draw(2) == 0;
    options.state_v_first = draw(2) == 0;
    CAPTURE(seed);
    check_v2(bf16_call(shape, options, seed, decays[static_cast<size_t>(draw(4))], draw(2) == 0), draw(2) == 0);
  }
}

TEST_CASE("kda v2 call: each version's backward takes the other's A [gpu]") {
  if (!runs_here()) {
    return;
  }
  const KernelCall call = bf16_call({.T = 100, .HV = 2, .K = 128, .V = 64}, {});
  const auto backward_of = [&](const Halves& halves) { return without_forward(run_halves(call, true, halves)); };
  check_same_results(backward_of({.forward = v1::forward}), backward_of({}));
  check_same_results(backward_of({.backward = v1::backward}), backward_of(halves_of_v1()));
}

TEST_CASE("kda v2 call: blocks of two warpgroups [gpu]") {
  if (!runs_here()) {
    return;
  }
  // That many heads take the twin a minute; there a test of its own pretends a single multiprocessor.
  const bool twin = cuda::compiled_architectures() == "host";
  const cuda::DeviceProperties& properties = cuda::device_properties(Device::cuda());
  for (const int K : {64, 128}) {
    CAPTURE(K);
    const KDAShape shape{.T = 200, .H = 1, .HV = twin ? 1 : properties.multiprocessors, .K = K, .V = 128};
    REQUIRE((twin || v2::scan_groups(shape.V, shape.HV, properties) == 2));
    REQUIRE((twin || v2::scan_groups(shape.V, 2 * shape.HV, properties) == 2));  // the two scans of the backward
    check_v2(bf16_call(shape, {.output_final_state = true}));
  }
}

TEST_CASE("kda v2 call: without a gradient of o [gpu]") {
  if (!runs_here()) {
    return;
  }
  KernelCall call = bf16_call({.T = 100, .HV = 2, .K = 64, .V = 64}, {.output_final_state = true});
  call.d_o = Tensor();
  check_v2(call);
}

TEST_CASE("kda v2 call: no tokens at all [gpu]") {
  if (!runs_here()) {
    return;
  }
  const KernelCall call = bf16_call({.B = 2, .T = 0, .K = 64, .V = 64}, {.output_final_state = true});
  const NamedResults results = run_halves(call);
  CHECK(same_bits(find(results, "ht"), to(call.inputs.initial_state, DType::f32)));
}

TEST_CASE("kda v2 call: two runs give the same bits [gpu]") {
  if (!runs_here()) {
    return;
  }
  const KernelCall call = bf16_call({.T = 300, .H = 2, .HV = 4, .K = 128, .V = 128}, {.output_final_state = true});
  check_same_results(run_halves(call), run_halves(call));
}

}  // namespace
}  // namespace deltatape::test
