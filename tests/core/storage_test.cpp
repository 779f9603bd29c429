#include "core/storage.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>

#include "core/host_memory.h"
#include "core/tensor.h"

using namespace deltatape;

TEST_CASE("Storage: data is aligned to 64 bytes, and so are blocks of any size") {
  for (const size_t bytes : {size_t{0}, size_t{1}, size_t{63}, size_t{64}, size_t{65}, size_t{65535}, size_t{65536},
                             size_t{65537}, size_t{100001}, size_t{1} << 20, (size_t{1} << 20) + 1}) {
    const auto storage = Storage::allocate(bytes, Device::cpu());
    CHECK(std::bit_cast<uintptr_t>(storage->data()) % 64 == 0);
    CHECK(storage->bytes() == bytes);
    std::memset(storage->data(), 0x5a, bytes);  // all of it is ours
    CHECK(storage->guards_intact());
    void* block = allocate_host(bytes);
    REQUIRE(block != nullptr);
    CHECK(std::bit_cast<uintptr_t>(block) % 64 == 0);
    std::memset(block, 0x5a, bytes);
    free_host(block, bytes);
  }
}

TEST_CASE("Storage: versions count writes") {
  Tensor x = empty({4}, DType::f32);
  CHECK(x.storage()->version() == 0);
  static_cast<void>(x.data<float>());
  static_cast<void>(x.mutable_raw());
  CHECK(x.storage()->version() == 0);
  Tensor view = x.as_view({2}, {1}, 1);
  view.mutable_data<float>()[0] = 1;
  CHECK(x.storage()->version() == 1);
}

TEST_CASE("Storage: memory_stats counts live and peak bytes and allocations") {
  const MemoryStats before = memory_stats();
  {
    const Tensor x = empty({1000}, DType::f32);
    const Tensor view = x.as_view({10}, {1}, 0);
    CHECK(memory_stats().live_bytes == before.live_bytes + 4000);
    CHECK(memory_stats().allocations == before.allocations + 1);
    reset_peak_memory();
    { const Tensor y = empty({3, 100}, DType::f64); }
    CHECK(memory_stats().live_bytes == before.live_bytes + 4000);
    CHECK(memory_stats().peak_bytes == before.live_bytes + 6400);
  }
  CHECK(memory_stats().live_bytes == before.live_bytes);
  reset_peak_memory();
  CHECK(memory_stats().peak_bytes == before.live_bytes);
}

TEST_CASE("Storage: with DELTATAPE_CHECK_MEMORY=1 fresh memory is NaN and guard zones notice writes") {
  if (!memory_checks_enabled()) {
    return;
  }
  for (const int64_t count : {1, 100, 100000}) {
    for (const DType dtype : {DType::f32, DType::f64, DType::bf16, DType::f16}) {
      // Twice: the second may come from the cache of blocks.
      for (int round = 0; round < 2; ++round) {
        const Tensor x = empty({count}, dtype);
        const std::vector<double> values = x.to_vector<double>();
        CHECK(std::isnan(values.front()));
        CHECK(std::isnan(values.back()));
        std::memset(x.mutable_raw(), 0, static_cast<size_t>(count) * size_of(dtype));
        CHECK(x.storage()->guards_intact());
        auto* bytes = static_cast<unsigned char*>(x.mutable_raw());
        for (unsigned char* outside :
             {bytes - 1, bytes - 64, bytes + x.storage()->bytes(), bytes + x.storage()->bytes() + 63}) {
          *outside ^= 1;
          CHECK(!x.storage()->guards_intact());
          *outside ^= 1;
          CHECK(x.storage()->guards_intact());
        }
      }
    }
  }
}

TEST_CASE("Storage: wrapped memory is released once, when the last tensor lets go") {
  std::vector<float> memory{1, 2, 3, 4};
  int released = 0;
  {
    Tensor view;
    {
      const Tensor x = from_external(memory.data(), {2, 2}, {}, [&] { ++released; });
      CHECK(x.to_vector<float>() == memory);
      view = x.as_view({2}, {2}, 1);
    }
    CHECK(released == 0);
    view.mutable_data<float>()[2] = 9;
  }
  CHECK(released == 1);
  CHECK(memory == std::vector<float>{1, 2, 3, 9});
}
