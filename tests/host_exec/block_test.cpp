// Block programs by themselves (backends/cuda/block.h): what collectives compute, in every order of indices, and that
// breaches of the rules are found.
#include "backends/cuda/block.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

#include "backends/cuda/host/schedule.h"
#include "tests/support/errors.h"

namespace deltatape::cuda {
namespace {

constexpr host::Schedule kSchedules[] = {
    {host::Schedule::Blocks::forward}, {host::Schedule::Blocks::backward}, {host::Schedule::Blocks::shuffled, 5}};
constexpr int64_t kLengths[] = {0, 1, 2, 31, 32, 33, 63, 64, 65, 255, 256, 257, 1000, 4097};

/// A block with `shared` bytes for the body.
template <int kThreads>
struct WithMemory : Block<kThreads> {
  explicit WithMemory(int64_t shared = 0, int64_t index = 0)
      : Block<kThreads>(index, Block<kThreads>::kScratch + shared) {}
};

std::vector<float> fractions(int64_t count) {
  std::vector<float> values(static_cast<size_t>(count));
  uint64_t state = 12345;
  for (float& value : values) {
    state = state * 6364136223846793005U + 1442695040888963407U;
    value = static_cast<float>(state >> 40) * 0x1p-24F - 0.5F;
  }
  return values;
}

/// The tree of 32 lanes, written down as the device's shuffles go: each lane takes from the one at `lane ^ distance`.
float tree(std::vector<float> lanes) {
  for (size_t distance = lanes.size() / 2; distance > 0; distance /= 2) {
    std::vector<float> next(lanes.size());
    for (size_t lane = 0; lane < lanes.size(); ++lane) {
      next[lane] = lanes[lane] + lanes[lane ^ distance];
    }
    lanes = next;
  }
  return lanes[0];
}

template <int kThreads>
float device_sum(const std::vector<float>& values) {
  std::vector<float> threads(static_cast<size_t>(kThreads), 0.0F);
  for (size_t i = 0; i < values.size(); ++i) {
    threads[i % threads.size()] += values[i];
  }
  std::vector<float> warps;
  for (size_t first = 0; first < threads.size(); first += 32) {
    const auto begin = threads.begin() + static_cast<std::ptrdiff_t>(first);
    warps.push_back(tree({begin, begin + 32}));
  }
  return tree(warps);
}

template <int kThreads>
void check_collectives() {
  CAPTURE(kThreads);
  for (const int64_t n : kLengths) {
    CAPTURE(n);
    const std::vector<float> values = fractions(n);
    const auto value = [&](int64_t i) { return values[static_cast<size_t>(i)]; };
    for (const host::Schedule schedule : kSchedules) {
      const host::ScheduleGuard guard(schedule);
      WithMemory<kThreads> block;
      CHECK(block.template sum<float>(n, value) == device_sum<kThreads>(values));
      float largest = -INFINITY;
      for (const float v : values) {
        largest = std::max(largest, v);
      }
      CHECK(block.template max<float>(n, value) == largest);

      std::vector<int64_t> sums(static_cast<size_t>(n), -1);
      const int64_t total = block.scan(
          n, int64_t{7}, Add{}, [](int64_t i) { return i * i + 1; },
          [&](int64_t i, int64_t before) { sums[static_cast<size_t>(i)] = before; });
      int64_t expected = 7;
      for (int64_t i = 0; i < n; ++i) {
        CHECK(sums[static_cast<size_t>(i)] == expected);
        expected += i * i + 1;
      }
      CHECK(total == expected);
    }
  }
}

TEST_CASE("Block: sums in the device's order, maxima and scans, for all lengths") {
  check_collectives<32>();
  check_collectives<64>();
  check_collectives<256>();
  check_collectives<1024>();
}

TEST_CASE("Block: the largest passes NaN over") {
  const std::vector<float> values{1.0F, NAN, 3.0F, 2.0F};
  WithMemory<32> block;
  CHECK(block.max<float>(4, [&](int64_t i) { return values[static_cast<size_t>(i)]; }) == 3.0F);
  CHECK(block.max<float>(1, [&](int64_t) { return NAN; }) == -INFINITY);
  CHECK(block.max<float>(0, [&](int64_t) { return NAN; }) == -INFINITY);
}

/// Concatenation of runs [first, last): associative, not commutative. Nonsense stays nonsense.
struct Run {
  int first;
  int last;
};
struct Join {
  Run operator()(Run a, Run b) const { return a.last == b.first ? Run{a.first, b.last} : Run{-1000, -1000}; }
};

TEST_CASE("Block::scan: combines neighbours only, in their order") {
  WithMemory<128> block;
  const Run all = block.scan(
      1000, Run{-5, 0}, Join{},
      [](int64_t i) {
        return Run{static_cast<int>(i), static_cast<int>(i) + 1};
      },
      [](int64_t i, Run before) {
        CHECK(before.first == -5);
        CHECK(before.last == i);
      });
  CHECK(all.last == 1000);
}

TEST_CASE("Block: shared memory and per-thread values") {
  for (const host::Schedule schedule : kSchedules) {
    const host::ScheduleGuard guard(schedule);
    WithMemory<64> block(shared_bytes<float>(100) + shared_bytes<int64_t>(1));
    const Shared<float> row = block.shared<float>(100);
    const Shared<int64_t> count = block.shared<int64_t>(1);
    PerThread<float> kept = block.per_thread<float>();
    block.once([&] { count[0] = 0; });
    block.each(100, [&](int64_t i) { row[i] = static_cast<float>(i); });
    block.each(100, [&](int64_t i) { row[i] += 0.5F; });
    block.threads([&](int thread) { kept(thread) = row[99 - thread]; });
    block.combine<8>(kept, Add{});
    block.threads([&](int thread) {
      const int top = 99 - thread / 8 * 8;
      CHECK(kept(thread) == 8.0F * (static_cast<float>(top) - 3.0F));
    });
    CHECK(block.uniform([&] { return static_cast<float>(row[7]); }) == 7.5F);
    CHECK(block.uniform([&] { return static_cast<float>((row + 7)[1]); }) == 8.5F);
  }
}

TEST_CASE("Block: fresh memory is NaN") {
  WithMemory<32> block(shared_bytes<double>(3));
  const Shared<double> row = block.shared<double>(3);
  PerThread<float> kept = block.per_thread<float>();
  block.threads([&](int thread) { CHECK(std::isnan(kept(thread))); });
  CHECK(std::isnan(block.uniform([&] { return static_cast<double>(row[2]); })));
}

// Planted faults.

/// What the check of one fault says; runs it in all orders.
template <class F>
void check_found(const std::string& part, F fault) {
  for (const host::Schedule schedule : kSchedules) {
    const host::ScheduleGuard guard(schedule);
    WithMemory<64> block(shared_bytes<float>(64));
    const Shared<float> row = block.shared<float>(64);
    block.each(64, [&](int64_t i) { row[i] = 0.0F; });
    const std::string message = test::error_of([&] { fault(block, row); });
    CHECK_MESSAGE(message.find(part) != std::string::npos, message);
  }
}

TEST_CASE("Block: a missing barrier is found") {
  check_found("the same collective", [](Block<64>& block, Shared<float> row) {
    block.each(64, [&](int64_t i) { row[i] = row[63 - i] + 1.0F; });
  });
  check_found("the same collective",
              [](Block<64>& block, Shared<float> row) { block.each(64, [&](int64_t i) { row[i / 2] = 1.0F; }); });
  check_found("the same collective", [](Block<64>& block, Shared<float> row) {
    (void)block.sum<float>(64, [&](int64_t i) {
      row[i] = 1.0F;
      return static_cast<float>(row[(i + 1) % 64]);
    });
  });
}

TEST_CASE("Block: one value that all threads add to is found") {
  check_found("the same collective",
              [](Block<64>& block, Shared<float> row) { block.each(64, [&](int64_t /*i*/) { row[0] += 1.0F; }); });
}

TEST_CASE("Block: shared memory outside a collective, and written by uniform code, is found") {
  check_found("between two collectives",
              [](Block<64>& /*block*/, Shared<float> row) { (void)static_cast<float>(row[0]); });
  check_found("uniform code writes", [](Block<64>& block, Shared<float> row) {
    (void)block.uniform([&] {
      row[0] = 1.0F;
      return 0;
    });
  });
}

TEST_CASE("Block: an index outside an array is found") {
  check_found("element 64 of 64", [](Block<64>& block, Shared<float> row) { block.once([&] { row[64] = 1.0F; }); });
  check_found("element -1 of 64", [](Block<64>& block, Shared<float> row) { block.once([&] { row[-1] = 1.0F; }); });
  check_found("entered at 65", [](Block<64>& /*block*/, Shared<float> row) { (void)(row + 65); });
}

TEST_CASE("Block: more shared memory than the launch provides is found") {
  WithMemory<64> block(shared_bytes<float>(5));
  (void)block.shared<float>(5);
  CHECK(test::error_of([&] { (void)block.shared<char>(1); }).find("but 0 are left") != std::string::npos);
}

TEST_CASE("Block: another thread's value, and a collective inside another, are found") {
  check_found("what belongs to thread", [](Block<64>& block, Shared<float> /*row*/) {
    PerThread<float> kept = block.per_thread<float>();
    block.threads([&](int thread) { kept((thread + 1) % 64) = 1.0F; });
  });
  check_found("inside another", [](Block<64>& block, Shared<float> /*row*/) {
    block.each(64, [&](int64_t) { (void)block.sum<float>(3, [](int64_t) { return 1.0F; }); });
  });
}

TEST_CASE("Block: after a fault is found the block can go on") {
  WithMemory<32> block;
  CHECK_THROWS_AS(block.each(1, [](int64_t) { fail("f", "x"); }), Error);
  CHECK(block.sum<float>(3, [](int64_t) { return 1.0F; }) == 3.0F);
}

}  // namespace
}  // namespace deltatape::cuda
