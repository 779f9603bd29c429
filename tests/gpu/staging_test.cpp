// Copies between the host and a device that go through pinned memory: sizes around its pieces, and what overlaps.
#include "backends/cuda/staging.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <thread>
#include <vector>

#include "backends/cuda/runtime/stream.h"
#include "ops/ops.h"
#include "tests/gpu/device.h"

namespace deltatape::test {
namespace {

constexpr auto kPiece = static_cast<int64_t>(cuda::kStagingPiece);
constexpr auto kArea = static_cast<int64_t>(cuda::kStagingPiece * cuda::kStagingPieces);

// Bits of which no two stretches are alike, in bytes, so that sizes are any.
Tensor random_bytes(uint64_t seed, int64_t count) {
  Tensor x = empty({count}, DType::boolean);
  auto* values = static_cast<bool*>(x.mutable_raw());
  uint64_t state = seed;
  for (int64_t i = 0; i < count; ++i) {
    state = state * 6364136223846793005U + 1442695040888963407U;
    values[i] = state >> 63 != 0;
  }
  return x;
}

bool same_bytes(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && std::memcmp(a.raw(), b.raw(), static_cast<size_t>(a.numel())) == 0;
}

TEST_SUITE("cuda") {
  TEST_CASE("to(device) and back: sizes around the pieces of the staging memory [gpu]") {
    if (!have_device()) {
      return;
    }
    const auto small = static_cast<int64_t>(cuda::kStagedFrom);
    for (const int64_t count : {small, small + 1, kPiece - 1, kPiece, kPiece + 1, 3 * kPiece + 5, kArea - 1, kArea,
                                kArea + 1, kArea + kPiece, 2 * kArea + kPiece + 7}) {
      CAPTURE(count);
      const Tensor x = random_bytes(static_cast<uint64_t>(count), count);
      const Tensor there = to(x, Device::cuda());
      CHECK(same_bytes(to(there, Device::cpu()), x));
      CHECK(same_bytes(to(clone(there), Device::cpu()), x));  // after work of the device's own
    }
  }

  TEST_CASE("to(device): the source may be changed at once [gpu]") {
    if (!have_device()) {
      return;
    }
    for (const int64_t count : {kPiece / 2, kArea / 2, kArea + kPiece + 1}) {
      CAPTURE(count);
      Tensor x = random_bytes(1, count);
      const Tensor kept = clone(x);
      const Tensor there = to(x, Device::cuda());
      fill_(x, 0.0);
      CHECK(same_bytes(to(there, Device::cpu()), kept));
    }
  }

  TEST_CASE("a loop that copies its batches does not mix them up [gpu]") {
    if (!have_device()) {
      return;
    }
    const int64_t count = kPiece + 4096;
    Tensor batch = empty({count}, DType::boolean);
    Tensor place = zeros({count}, {DType::boolean, Device::cuda()});
    std::vector<Tensor> seen;
    for (uint64_t step = 0; step < 12; ++step) {  // more than the staging memory holds
      copy_(batch, random_bytes(step, count));
      copy_(place, batch);  // into the same place, after the step before has read it
      seen.push_back(clone(place));
    }
    for (uint64_t step = 0; step < 12; ++step) {
      CAPTURE(step);
      CHECK(same_bytes(to(seen[step], Device::cpu()), random_bytes(step, count)));
    }
  }

  TEST_CASE("to(device) and back: views, and on another stream [gpu]") {
    if (!have_device()) {
      return;
    }
    const Tensor x = reshape(random_bytes(3, 1200 * 1500), {1200, 1500});
    const Tensor turned = transpose(x, 0, 1);
    const Tensor columns = slice(x, 1, Slice{100, 1400});
    const cuda::StreamGuard guard(cuda::Stream::create(Device::cuda()));
    CHECK(same_bytes(to(to(turned, Device::cuda()), Device::cpu()), contiguous(turned)));
    CHECK(same_bytes(to(to(columns, Device::cuda()), Device::cpu()), contiguous(columns)));
    const Tensor there = to(x, Device::cuda());
    CHECK(same_bytes(to(transpose(there, 0, 1), Device::cpu()), contiguous(turned)));
    CHECK(same_bytes(contiguous(on_host(transpose(there, 0, 1))), contiguous(turned)));
  }

  TEST_CASE("to(device) and back: many threads at once [gpu]") {
    if (!have_device()) {
      return;
    }
    constexpr int kThreads = 6;
    std::vector<int> wrong(kThreads, 0);
    std::vector<std::thread> threads;
    threads.reserve(kThreads);
    for (int id = 0; id < kThreads; ++id) {
      threads.emplace_back([id, &wrong] {
        for (int round = 0; round < 4; ++round) {
          const int64_t count = (id % 3 + 1) * kPiece * 2 + id * 100 + round;
          const Tensor x = random_bytes(static_cast<uint64_t>(id) * 10 + static_cast<uint64_t>(round), count);
          wrong[static_cast<size_t>(id)] += same_bytes(to(to(x, Device::cuda()), Device::cpu()), x) ? 0 : 1;
        }
      });
    }
    for (std::thread& thread : threads) {
      thread.join();
    }
    CHECK(std::count(wrong.begin(), wrong.end(), 0) == kThreads);
  }
}

}  // namespace
}  // namespace deltatape::test
