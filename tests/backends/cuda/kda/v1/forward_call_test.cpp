// Whole calls of v1's forward on the host twin against the CPU's kernels in f64 on the same bf16 numbers; and what may
// not change a bit: the working memory allowed, what is kept for backward, the order in which blocks run.
#include <doctest/doctest.h>

#include "backends/cuda/host/schedule.h"
#include "backends/cuda/kda/v1/backward.h"
#include "backends/cuda/kda/v1/forward.h"
#include "backends/cuda/runtime/device.h"
#include "ops/convert.h"
#include "tests/gpu/kda/kernel_call.h"

namespace deltatape::test::kda_v1 {
namespace {

namespace v1 = cuda::kda::v1;

struct Results {
  Tensor o;
  Tensor final_state;
  Tensor h;
  Tensor saved;
};

KernelCall bf16_call(const KDAShape& shape, const kda::Options& options, uint64_t seed = 1, Decay decay = Decay::mild,
                     Keys keys = Keys::random, bool with_state = true) {
  return kernel_call(in_dtype(make_case(shape, options, seed, decay, keys, with_state), DType::bf16));
}

Shape state_shape(const kda::KernelProblem& p) {
  int64_t states = 0;
  for (const kda::Sequence& sequence : p.sequences) {
    states = std::max(states, sequence.state_out + 1);
  }
  return p.state_v_first ? Shape{states, p.HV, p.V, p.K} : Shape{states, p.HV, p.K, p.V};
}

/// v1 on the twin's device; results on the host.
Results run_v1(const KernelCall& call, bool saved = false) {
  const Device device = Device::cuda();
  const kda::KernelProblem& p = call.problem;
  REQUIRE(v1::why_not(p, DType::bf16, device).empty());
  kda::KernelInputs in = call.inputs;
  for (Tensor* const x : {&in.q, &in.k, &in.v, &in.g, &in.beta, &in.A_log, &in.dt_bias, &in.initial_state}) {
    *x = copy_to(*x, device);
  }
  kda::KernelOutputs out;
  out.o = empty(in.v.shape(), in.v.options());
  const DType state = in.initial_state.defined() ? in.initial_state.dtype() : DType::f32;
  out.final_state = empty(state_shape(p), {state, device});
  if (call.with_h) {
    out.h = empty(call.h_shape, {DType::f32, device});
  }
  if (saved) {
    out.saved = empty(v1::saved_shape(p, device), {DType::bf16, device});
  }
  v1::forward(p, in, out);
  const Device host = Device::cpu();
  return {copy_to(out.o, host), copy_to(out.final_state, host), copy_to(out.h, host), copy_to(out.saved, host)};
}

/// The CPU's kernels in f64 on the same numbers.
Results run_cpu(const KernelCall& call) {
  kda::KernelProblem p = call.problem;
  p.compute_dtype = DType::f64;
  kda::KernelInputs in = call.inputs;
  for (Tensor* const x : {&in.q, &in.k, &in.v, &in.g, &in.beta, &in.A_log, &in.dt_bias, &in.initial_state}) {
    *x = x->defined() ? to(*x, DType::f64) : *x;
  }
  const TensorOptions options{DType::f64, Device::cpu()};
  kda::KernelOutputs out;
  out.o = empty(in.v.shape(), options);
  out.final_state = empty(state_shape(p), options);
  if (call.with_h) {
    out.h = empty(call.h_shape, options);
  }
  backend_of(Device::cpu()).kda_forward(p, in, out);
  return {out.o, out.final_state, out.h, Tensor()};
}

/// 1.5 times the largest error of an emulation of the rounding points.
constexpr double kLimit = 1.5 * 0.0070;

void check_call(const KernelCall& call) {
  const Results actual = run_v1(call);
  const Results expected = run_cpu(call);
  CHECK(relative_error(actual.o, expected.o) <= kLimit);
  CHECK(relative_error(actual.final_state, expected.final_state) <= kLimit);
  if (call.with_h) {
    CHECK(relative_error(actual.h, expected.h) <= kLimit);
  }
}

void check_same(const Results& a, const Results& b) {
  CHECK(same_bits(a.o, b.o));
  CHECK(same_bits(a.final_state, b.final_state));
}

TEST_CASE("kda v1 forward call: the CPU's results") {
  const KDAShape shape{.B = 2, .T = 70, .H = 2, .HV = 4, .K = 64, .V = 32};
  check_call(bf16_call(shape, {.output_final_state = true, .output_h = true}));
  check_call(bf16_call(shape, {.output_h = true, .state_v_first = true}, 2, Decay::mixed));
  check_call(bf16_call(shape, {.output_h = true, .chunk_size = 32}, 3, Decay::resets, Keys::random, false));
  check_call(bf16_call(shape, {.scale = 0.5, .use_qk_l2norm = true}, 4));
  const kda::Options all{.use_qk_l2norm = true, .use_beta_sigmoid = true, .allow_neg_eigval = true};
  for (const kda::Gate gate : {kda::Gate::standard, kda::Gate::lower_bound}) {
    kda::Options options = all;
    options.gate = gate;
    check_call(bf16_call(shape, options, 5));
  }
  kda::Options far = all;
  far.gate = kda::Gate::lower_bound;
  far.lower_bound = -20;
  check_call(bf16_call(shape, far, 6));
}

TEST_CASE("kda v1 forward call: sequences, empty ones among them") {
  const KDAShape shape{.T = 140, .H = 1, .HV = 2, .K = 128, .V = 48, .lengths = {0, 70, 1, 0, 64, 5}};
  check_call(bf16_call(shape, {.output_final_state = true, .output_h = true}));
  check_call(bf16_call(shape, {.output_final_state = true, .output_h = true, .chunk_size = 32}, 2));
}

TEST_CASE("kda v1 forward call: no tokens at all") {
  const KernelCall call = bf16_call({.B = 2, .T = 0, .K = 64, .V = 32}, {.output_final_state = true});
  const Results results = run_v1(call);
  CHECK(same_bits(results.final_state, call.inputs.initial_state));
}

TEST_CASE("kda v1 forward call: the working memory allowed and what is kept change no bit") {
  KernelCall call = bf16_call({.T = 130, .H = 3, .HV = 6, .K = 64, .V = 64}, {});
  const Device device = Device::cuda();
  const int64_t whole = v1::plan_forward(call.problem, device, false).bytes;
  const Results expected = run_v1(call);
  const Tensor A = run_v1(call, true).saved;
  check_same(run_v1(call, true), expected);
  for (const int64_t share : {2, 5, 100}) {
    call.problem.workspace_limit = whole / share;
    const v1::ForwardPlan plan = v1::plan_forward(call.problem, device, false);
    CHECK(plan.heads == (share == 2 ? 3 : 1));
    CHECK((plan.bytes <= call.problem.workspace_limit || plan.heads == 1));
    check_same(run_v1(call), expected);
    const Results kept = run_v1(call, true);
    check_same(kept, expected);
    CHECK(same_bits(kept.saved, A));
  }
}

TEST_CASE("kda v1 forward call: the same bits in any order, at once or later") {
  const KernelCall call = bf16_call({.B = 2, .T = 70, .HV = 2, .K = 64, .V = 64}, {});
  const Results expected = run_v1(call);
  using cuda::host::Schedule;
  for (const Schedule& schedule : {Schedule{.blocks = Schedule::Blocks::backward},
                                   Schedule{.blocks = Schedule::Blocks::shuffled, .seed = 7, .deferred = true}}) {
    const cuda::host::ScheduleGuard guard(schedule);
    check_same(run_v1(call), expected);
  }
}

TEST_CASE("kda v1 forward call: a bf16 initial state gives a bf16 final state") {
  KernelCall call = bf16_call({.T = 70, .K = 64, .V = 32}, {});
  call.inputs.initial_state = to(call.inputs.initial_state, DType::f32);
  const Results f32 = run_v1(call);
  call.inputs.initial_state = to(call.inputs.initial_state, DType::bf16);
  const Results bf16 = run_v1(call);
  CHECK(f32.final_state.dtype() == DType::f32);
  CHECK(same_bits(bf16.o, f32.o));
  CHECK(same_bits(bf16.final_state, to(f32.final_state, DType::bf16)));
}

TEST_CASE("kda v1 forward: why not") {
  const Device device = Device::cuda();
  const kda::KernelProblem good = bf16_call({.T = 70, .K = 64, .V = 32}, {}).problem;
  CHECK(v1::why_not(good, DType::bf16, device).empty());
  CHECK(v1::why_not(good, DType::f32, device) == "the tensors are f32 and v1 takes bf16");
  kda::KernelProblem p = good;
  p.K = 96;
  CHECK(v1::why_not(p, DType::bf16, device) == "K is 96 and v1 takes 64 and 128");
  p = good;
  p.V = 40;
  CHECK(v1::why_not(p, DType::bf16, device) == "V is 40 and v1 takes multiples of 16");
  p = good;
  p.chunk_size = 16;
  CHECK(v1::why_not(p, DType::bf16, device) == "chunk_size is 16 and v1 takes 32 and 64");
}

TEST_CASE("kda v1 forward: how many warps a block of the scan has") {
  const Device device = Device::cuda();
  const auto plan = [&](int64_t HV, int64_t V) {
    kda::KernelProblem p;
    p.B = 1;
    p.T = 8192;
    p.H = p.HV = HV;
    p.K = 128;
    p.V = V;
    p.sequences = {{.row = 0, .begin = 0, .end = 8192}};
    return v1::plan_forward(p, device, false);
  };
  // One wave where there is one to be had, and then the fewest rows of the state per block.
  CHECK(plan(64, 128).warps == 4);
  CHECK(plan(96, 128).warps == 8);
  CHECK(plan(32, 128).warps == 2);
  CHECK(plan(64, 80).warps == 5);
  for (const int64_t HV : {1, 16, 64, 96, 128}) {
    const v1::ForwardPlan p = plan(HV, 128);
    CHECK(p.warps * p.slices * 16 == 128);
    CHECK(p.chunks == 128);
    const int64_t of_segments = p.segments.cut() ? (p.segments.states + p.segments.maps) * HV * 65'536 : 0;
    CHECK(p.bytes == 128 * p.heads * (58'112 + 8192) + of_segments);
    CHECK(p.bytes <= kda::kWorkspaceLimit);
  }
}

TEST_CASE("kda v1: the scans take a third stage where it costs no wave of blocks") {
  const auto problem = [](int64_t B, int64_t T, int64_t heads, int64_t size) {
    kda::KernelProblem p;
    p.B = B;
    p.T = T;
    p.H = p.HV = heads;
    p.K = p.V = size;
    for (int64_t row = 0; row < B; ++row) {
      p.sequences.push_back({.row = row, .begin = 0, .end = T});
    }
    return p;
  };
  const Device device = Device::cuda();  // 132 multiprocessors, 227 KiB a block
  // 256 blocks of two warps, two to a multiprocessor: with a third stage there would be room for one.
  const v1::ForwardPlan narrow = v1::plan_forward(problem(4, 2048, 32, 64), device, false);
  CHECK(narrow.warps == 2);
  CHECK(narrow.stages == 2);
  // 128 blocks, of which a multiprocessor holds one either way.
  CHECK(v1::plan_forward(problem(1, 8192, 64, 128), device, false).stages == 3);
  // Few enough for one wave either way.
  CHECK(v1::plan_forward(problem(1, 2048, 16, 64), device, false).stages == 3);
  // The scan and its reverse at a time: 256 blocks again, of twice as many states.
  const v1::BackwardPlan both = v1::plan_backward(problem(4, 2048, 16, 64), device, false);
  CHECK(both.warps == 2);
  CHECK(both.stages == 2);
  CHECK(v1::plan_backward(problem(1, 8192, 32, 128), device, false).stages == 3);
  // Three stages of blocks this narrow do not fit on sm_80.
  const cuda::host::PretendedDevice a100(8, 108, 163 * 1024);
  CHECK(v1::plan_forward(problem(1, 8192, 64, 128), device, false).stages == 2);
}

}  // namespace
}  // namespace deltatape::test::kda_v1
