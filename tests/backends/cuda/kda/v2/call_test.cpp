// Calls of v2 on the host twin: what may not change a bit, and what v2 refuses.
#include <doctest/doctest.h>

#include "backends/cuda/host/schedule.h"
#include "backends/cuda/kda/v1/backward.h"
#include "tests/gpu/kda/version_call.h"

namespace deltatape::test {
namespace {

namespace v1 = cuda::kda::v1;
namespace v2 = cuda::kda::v2;
using cuda::host::PretendedArchitectures;
using cuda::host::PretendedDevice;
using cuda::host::Schedule;
using cuda::host::ScheduleGuard;

TEST_CASE("kda v2 call: on the twin, which adds in the same order, o, ht, h and A are v1's bit for bit") {
  const KDAShape shape{.T = 240, .H = 2, .HV = 4, .K = 128, .V = 128, .lengths = {100, 0, 70, 70}};
  const KernelCall call = bf16_call(shape, {.output_final_state = true, .output_h = true}, 4);
  const NamedResults by_v2 = run_halves(call);
  const NamedResults by_v1 = run_halves(call, true, halves_of_v1());
  for (const char* const name : {"o", "ht", "h", "A"}) {
    CAPTURE(name);
    CHECK(same_bits(find(by_v2, name), find(by_v1, name)));
  }
}

TEST_CASE("kda v2 call: working memory, slices of V and the order of blocks and warps change no bit") {
  for (const int K : {64, 128}) {
    CAPTURE(K);
    const KernelCall of_two = bf16_call({.T = 130, .HV = 2, .K = K, .V = 128}, {.output_final_state = true});
    const NamedResults by_one = run_halves(of_two);
    const PretendedDevice one_multiprocessor(9, 1, 227 * 1024);  // two warpgroups a block
    check_same_results(run_halves(of_two), by_one);
  }
  KernelCall call = bf16_call({.T = 130, .H = 2, .HV = 4, .K = 64, .V = 128}, {.output_final_state = true});
  const NamedResults expected = run_halves(call);
  for (const Schedule::Blocks blocks : {Schedule::Blocks::backward, Schedule::Blocks::shuffled}) {
    const ScheduleGuard guard({.blocks = blocks, .seed = 3, .deferred = true});
    check_same_results(run_halves(call), expected);
  }
  call.problem.workspace_limit = v1::plan_backward(call.problem, Device::cuda(), true).bytes / 2;
  check_same_results(run_halves(call), expected);
}

TEST_CASE("kda v2: why not") {
  const Device device = Device::cuda();
  const kda::KernelProblem good = bf16_call({.T = 70, .K = 64, .V = 64}, {}).problem;
  CHECK(v2::why_not(good, DType::bf16, device) == "");
  CHECK(v2::why_not(good, DType::f32, device) == "the tensors are f32 and v1 takes bf16");
  kda::KernelProblem p = good;
  p.V = 96;
  CHECK(v2::why_not(p, DType::bf16, device) == "V is 96 and v2 takes multiples of 64");
  p = good;
  p.V = 192;
  CHECK(v2::why_not(p, DType::bf16, device) == "");
  CHECK(v2::why_not_backward(p, DType::bf16, device) == "V is 192 and v1's backward takes 64 and 128");
  p = good;
  p.chunk_size = 32;
  CHECK(v2::why_not(p, DType::bf16, device) == "chunk_size is 32 and v2 takes 64");
  {
    const PretendedArchitectures without_a("80 90");
    CHECK(v2::why_not(good, DType::bf16, device) == "the kernels are for sm 80 90 and v2's are for sm 90a");
    CHECK(v2::why_not_backward(good, DType::bf16, device) == v2::why_not(good, DType::bf16, device));
  }
  {
    const PretendedArchitectures with_a("80 90a");
    CHECK(v2::why_not(good, DType::bf16, device) == "");
  }
  const PretendedDevice a100(8, 108, 163 * 1024);
  CHECK(v2::why_not(good, DType::bf16, device) == "the device is of compute capability 8.0 and v2 takes 9.x");
}

}  // namespace
}  // namespace deltatape::test
