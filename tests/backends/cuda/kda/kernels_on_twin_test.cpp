// What only the host twin can show of the KDA kernels: that no order of blocks, elements and streams changes a bit, and
// how much memory calls take.
#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "autograd/grad_mode.h"
#include "backends/cuda/host/schedule.h"
#include "backends/cuda/kda/sequences.h"
#include "backends/cuda/launch.h"
#include "backends/cuda/runtime/graph.h"
#include "core/storage.h"
#include "ops/convert.h"
#include "ops/creation.h"
#include "ops/kda/decode.h"
#include "ops/kda/plan.h"
#include "tests/gpu/kda/kernel_call.h"
#include "tests/gpu/kda/on_device.h"
#include "tests/ops/kda/random_case.h"
#include "tests/support/errors.h"
#include "tests/support/random_tensors.h"

namespace deltatape {
namespace {

using cuda::host::Schedule;
using cuda::host::ScheduleGuard;
using test::KDACase;
using test::NamedResults;

void check_same_bits(const NamedResults& actual, const NamedResults& expected) {
  REQUIRE(actual.size() == expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    CAPTURE(expected[i].first);
    CHECK(test::same_bits(actual[i].second, expected[i].second));
  }
}

TEST_CASE("kda on the twin: no bit depends on the order of blocks, of indices or of streams") {
  for (uint64_t seed = 4000; seed < 4016; ++seed) {
    const test::RandomCase r = test::random_case(seed);
    CAPTURE(r.text);
    const test::KernelCall call = kernel_call(in_dtype(r.c, seed % 2 == 0 ? DType::f32 : DType::bf16));
    const NamedResults expected = run_kernels(call, Device::cuda());
    for (const auto blocks : {Schedule::Blocks::backward, Schedule::Blocks::shuffled}) {
      const ScheduleGuard guard({.blocks = blocks, .seed = seed, .deferred = seed % 3 == 0});
      check_same_bits(run_kernels(call, Device::cuda()), expected);
    }
  }
}

TEST_CASE("kda on the twin: a call takes the working memory that its plan says, and gives it back") {
  kda::Options options;
  options.gate = kda::Gate::standard;
  options.use_qk_l2norm = true;
  const test::KDACase c = test::make_case({1, 200, 2, 4, 24, 40, {140, 60}}, options, 5);
  test::KernelCall call = kernel_call(c);
  call.d_final_state = Tensor();
  const auto peak_of = [&call] {
    const MemoryStats before = memory_stats(DeviceType::cuda);
    reset_peak_memory(DeviceType::cuda);
    run_kernels(call, Device::cuda());
    const MemoryStats after = memory_stats(DeviceType::cuda);
    CHECK(after.live_bytes == before.live_bytes);
    return after.peak_bytes - before.live_bytes;
  };
  const auto planned = [&call] {
    return backend_of(Device::cuda()).kda_plan(call.problem, DType::f64, Device::cuda()).backward_bytes;
  };
  const int64_t whole_peak = peak_of();
  const int64_t whole = planned();
  call.problem.workspace_limit = 1;
  // Everything but the working memory is the same.
  CHECK(whole_peak - peak_of() == whole - planned());
  CHECK(whole_peak > whole);
}

TEST_CASE("kda on the twin: v1 takes the working memory that its plan says") {
  kda::Options options;
  options.gate = kda::Gate::standard;
  options.use_qk_l2norm = true;
  for (const int64_t V : {64, 128}) {
    const KDACase c = in_dtype(test::make_case({1, 200, 2, 4, 64, V, {140, 60}}, options, 5), DType::bf16);
    for (const bool saved : {false, true}) {
      CAPTURE(V);
      CAPTURE(saved);
      test::KernelCall call = kernel_call(c);
      call.d_final_state = Tensor();
      call.problem.save_intermediates = saved;
      const auto plan_of = [&call] {
        return backend_of(Device::cuda()).kda_plan(call.problem, DType::bf16, Device::cuda());
      };
      CHECK(plan_of().text.find("forward v1") == 0);
      CHECK(plan_of().text.find("; backward v1") != std::string::npos);
      const auto peak_of = [&call] {
        const MemoryStats before = memory_stats(DeviceType::cuda);
        reset_peak_memory(DeviceType::cuda);
        run_kernels(call, Device::cuda());
        const MemoryStats after = memory_stats(DeviceType::cuda);
        CHECK(after.live_bytes == before.live_bytes);
        return after.peak_bytes - before.live_bytes;
      };
      const int64_t whole_peak = peak_of();
      const int64_t whole = plan_of().backward_bytes;
      CHECK(whole_peak > whole);
      call.problem.workspace_limit = 1;
      // Everything but the working memory is the same.
      CHECK(whole_peak - peak_of() == whole - plan_of().backward_bytes);
    }
  }
}

/// The plan of a call that is to keep what backward needs.
kda::Plan saving_plan(DType dtype, int64_t K, int64_t V) {
  kda::Options options;
  options.save_intermediates = true;
  return kda::plan(options, {.T = 1000, .H = 2, .HV = 2, .K = K, .V = V, .dtype = dtype}, Device::cuda());
}

TEST_CASE("kda on the twin: forward keeps what backward reads, and nothing else") {
  const std::string reads = "; backward reads the 0.2 MiB that forward keeps (save_intermediates)";
  const std::string nothing = "; backward computes what it needs again (forward keeps nothing here)";
  const auto has = [](const kda::Plan& plan, const std::string& words) {
    return plan.text.find(words) != std::string::npos;
  };
  CHECK(has(saving_plan(DType::bf16, 128, 128), reads));
  CHECK(has(saving_plan(DType::bf16, 128, 48), nothing));  // v0's backward behind v1's forward
  const cuda::host::PretendedDevice a100(8, 108, 163 * 1024);
  // There backward takes chunks of 32 tokens, and A of 64 is of no use to it.
  const kda::Plan plan = saving_plan(DType::bf16, 128, 128);
  CHECK(has(plan, "forward v1, chunks of 64 tokens"));
  CHECK(has(plan, "; backward v1, chunks of 32 tokens"));
  CHECK(has(plan, nothing));
  CHECK(has(saving_plan(DType::bf16, 128, 64), "; backward v1, chunks of 32 tokens"));
  CHECK(has(saving_plan(DType::bf16, 64, 64), reads));
  kda::Options options;
  options.save_intermediates = true;
  const test::KernelCall call =
      kernel_call(in_dtype(test::make_case({1, 70, 1, 1, 128, 128, {}}, options, 6), DType::bf16));
  test::KernelCall again = call;
  again.problem.save_intermediates = false;
  check_same_bits(run_kernels(call, Device::cuda()), run_kernels(again, Device::cuda()));
}

TEST_CASE("kda on the twin: decode is recorded with its slots on the host, and refused with slots to be read") {
  for (const int64_t size : {64, 24}) {  // the kernel with states in registers, and v0's
    CAPTURE(size);
    kda::Options options;
    options.gate = kda::Gate::standard;
    const KDACase c = test::on_device(in_dtype(test::make_case({2, 1, 1, 2, size, size, {}}, options, 7), DType::f32),
                                      Device::cuda());
    kda::Inputs in = c.inputs;
    in.initial_state = Tensor();
    const Tensor states = to(test::random_tensor({4, 2, size, size}, 8, DType::f32), Device::cuda());
    const kda::DecodeSlots slots{.slots = from_vector(std::vector<int64_t>{3, 1})};
    const NoGradGuard no_grad;
    Tensor expected_pool = clone(states);
    const Tensor expected = to(kda::decode(in, expected_pool, slots, options), Device::cpu());
    const kda::DecodeSlots there{.slots = to(slots.slots, Device::cuda())};
    Tensor pool = clone(states);
    CHECK(test::same_bits(to(kda::decode(in, pool, there, options), Device::cpu()), expected));
    CHECK(test::same_bits(to(pool, Device::cpu()), to(expected_pool, Device::cpu())));

    pool = clone(states);
    Tensor o;
    const cuda::Graph graph = cuda::Graph::record(Device::cuda(), [&] { o = kda::decode(in, pool, slots, options); });
    CHECK(test::same_bits(to(pool, Device::cpu()), to(states, Device::cpu())));
    graph.replay();
    CHECK(test::same_bits(to(o, Device::cpu()), expected));
    CHECK(test::same_bits(to(pool, Device::cpu()), to(expected_pool, Device::cpu())));
    CHECK_ERROR(cuda::Graph::record(Device::cuda(), [&] { o = kda::decode(in, pool, there, options); }),
                "copy: cuda:0 is recording a graph, and nothing can be waited for or read back");

    const kda::DecodeSlots elsewhere{.slots = to(slots.slots, Device::cuda(1))};
    CHECK_ERROR(kda::decode(in, pool, elsewhere, options),
                "kda::decode: slots is on cuda:1, expected cuda:0 as q, or cpu");
  }
}

TEST_CASE("kda on the twin: tables of sequences and chunks") {
  kda::KernelProblem problem;
  problem.B = 2;
  problem.T = 300;
  problem.HV = 1;
  problem.chunk_size = 32;
  problem.sequences = {{.row = 0, .begin = 0, .end = 40, .state_in = 0, .state_out = -1},
                       {.row = 0, .begin = 40, .end = 40, .state_in = -1, .state_out = -1},
                       {.row = 0, .begin = 40, .end = 300, .state_in = -1, .state_out = 0},
                       {.row = 1, .begin = 0, .end = 300, .state_in = 1, .state_out = 1}};
  const auto tables = cuda::kda::sequence_tables(problem, 64, Device::cuda());
  CHECK(tables.sequences == 4);
  CHECK(tables.chunks == 1 + 0 + 5 + 5);
  CHECK(tables.checkpoints == 0 + 0 + 4 + 4);
  CHECK(tables.longest == 300);
  std::vector<int64_t> entries = test::copy_to(tables.sequence_memory, Device::cpu()).to_vector<int64_t>();
  // first row, length, states in and out, first chunk, first state in h, first kept state; longest first.
  const std::vector<int64_t> expected{300, 300, 1,  1,  6, 11, 4,  //
                                      40,  260, -1, 0,  1, 2,  0,  //
                                      0,   40,  0,  -1, 0, 0,  0,  //
                                      40,  0,   -1, -1, 1, 2,  0};
  REQUIRE(entries.size() >= expected.size());
  entries.resize(expected.size());  // what follows is for finding chunks
  CHECK(entries == expected);
  const Tensor chunk_memory = test::copy_to(tables.chunk_memory, Device::cpu());
  const auto* chunks = static_cast<const cuda::kda::ChunkEntry*>(chunk_memory.raw());
  const std::vector<std::vector<int64_t>> expected_chunks{{0, 40, 2},   {40, 64, 1},  {104, 64, 1}, {168, 64, 1},
                                                          {232, 64, 1}, {296, 4, 1},  {300, 64, 0}, {364, 64, 0},
                                                          {428, 64, 0}, {492, 64, 0}, {556, 44, 0}};
  REQUIRE(static_cast<int64_t>(expected_chunks.size()) == tables.chunks);
  for (size_t i = 0; i < expected_chunks.size(); ++i) {
    CAPTURE(i);
    CHECK(std::vector<int64_t>{chunks[i].first_row, chunks[i].length, chunks[i].sequence} == expected_chunks[i]);
  }
}

TEST_CASE("kda on the twin: chunks of many sequences, more than kernels' arguments carry") {
  kda::KernelProblem problem;
  problem.B = 1;
  problem.HV = 1;
  problem.chunk_size = 64;
  std::vector<std::pair<int64_t, int64_t>> expected;  // first row and length
  for (int64_t n = 0; n < 3000; ++n) {
    const int64_t length = n * 37 % 151;  // 0 to 150
    problem.sequences.push_back({.row = 0, .begin = problem.T, .end = problem.T + length});
    for (int64_t start = 0; start < length; start += 64) {
      expected.emplace_back(problem.T + start, std::min<int64_t>(64, length - start));
    }
    problem.T += length;
  }
  const auto tables = cuda::kda::sequence_tables(problem, 64, Device::cuda());
  REQUIRE(tables.chunks == static_cast<int64_t>(expected.size()));
  const Tensor sequence_memory = test::copy_to(tables.sequence_memory, Device::cpu());
  const Tensor chunk_memory = test::copy_to(tables.chunk_memory, Device::cpu());
  const auto* sequences = static_cast<const cuda::kda::SequenceEntry*>(sequence_memory.raw());
  const auto* chunks = static_cast<const cuda::kda::ChunkEntry*>(chunk_memory.raw());
  bool all_same = true;
  for (size_t i = 0; i < expected.size(); ++i) {
    const cuda::kda::SequenceEntry& sequence = sequences[chunks[i].sequence];
    all_same = all_same && chunks[i].first_row == expected[i].first && chunks[i].length == expected[i].second &&
               chunks[i].first_row >= sequence.first_row && chunks[i].first_row < sequence.first_row + sequence.length;
  }
  CHECK(all_same);
}

TEST_CASE("kda on the twin: more numbers than one launch carries reach the device") {
  std::vector<int64_t> numbers;
  for (int64_t i = 0; i < 2000; ++i) {
    numbers.push_back(i * i - 7);
  }
  CHECK(test::copy_to(cuda::kda::to_device(numbers, Device::cuda()), Device::cpu()).to_vector<int64_t>() == numbers);
}

// Copies from pageable memory never wait on the twin, as they may on a device: this shows that nothing else does.
TEST_CASE("kda on the twin: numbers on their way wait for no work of the stream, however many they are") {
  for (const size_t count : {size_t{7680}, size_t{7681}, size_t{8193}, size_t{300'000}}) {
    CAPTURE(count);
    int done = 0;
    const ScheduleGuard guard({.blocks = Schedule::Blocks::forward, .seed = 1, .deferred = true});
    cuda::launch_elements(cuda::current_stream(Device::cuda()), 1, [&done](int64_t /*i*/) { ++done; });
    std::vector<int64_t> numbers(count);
    std::iota(numbers.begin(), numbers.end(), -5);
    const Tensor there = cuda::kda::to_device(numbers, Device::cuda());
    CHECK(done == 0);
    std::vector<int64_t> sent = numbers;
    std::fill(numbers.begin(), numbers.end(), 0);  // they may be gone by now
    CHECK(test::copy_to(there, Device::cpu()).to_vector<int64_t>() == sent);
    CHECK(done == 1);
  }
}

}  // namespace
}  // namespace deltatape
