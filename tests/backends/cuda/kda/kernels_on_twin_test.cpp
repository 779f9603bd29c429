// What only the host twin can show of the KDA kernels: that no order of blocks, elements and streams changes a bit, and
// how much memory calls take.
#include <doctest/doctest.h>

#include "backends/cuda/host/schedule.h"
#include "backends/cuda/kda/sequences.h"
#include "core/storage.h"
#include "tests/gpu/kda/kernel_call.h"
#include "tests/ops/kda/random_case.h"

namespace deltatape {
namespace {

using cuda::host::Schedule;
using cuda::host::ScheduleGuard;
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
  const std::vector<int64_t> entries = test::copy_to(tables.sequence_memory, Device::cpu()).to_vector<int64_t>();
  // first row, length, states in and out, first chunk, first state in h, first kept state; longest first.
  const std::vector<int64_t> expected{300, 300, 1,  1,  6, 11, 4,  //
                                      40,  260, -1, 0,  1, 2,  0,  //
                                      0,   40,  0,  -1, 0, 0,  0,  //
                                      40,  0,   -1, -1, 1, 2,  0};
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

TEST_CASE("kda on the twin: more numbers than one launch carries reach the device") {
  std::vector<int64_t> numbers;
  for (int64_t i = 0; i < 2000; ++i) {
    numbers.push_back(i * i - 7);
  }
  CHECK(test::copy_to(cuda::kda::to_device(numbers, Device::cuda()), Device::cpu()).to_vector<int64_t>() == numbers);
}

}  // namespace
}  // namespace deltatape
