#include "ops/sequences.h"

#include <doctest/doctest.h>

#include "tests/support/errors.h"

using namespace deltatape;

TEST_CASE("checked_cu_seqlens: bounds as host numbers, empty sequences included") {
  const std::vector<int64_t> bounds = {0, 3, 3, 7};
  CHECK(checked_cu_seqlens("f", from_vector(bounds), 1, 7) == bounds);
  CHECK(checked_cu_seqlens("f", from_vector<int32_t>({0, 3, 3, 7}), 1, 7) == bounds);
  CHECK(checked_cu_seqlens("f", from_vector<int64_t>({0, 0}), 1, 0) == std::vector<int64_t>{0, 0});
}

TEST_CASE("checked_cu_seqlens: every rule has its sentence") {
  const auto checked = [](const std::vector<int64_t>& values, int64_t batch = 1) {
    return checked_cu_seqlens("f", from_vector(values), batch, 7);
  };
  CHECK_ERROR(checked_cu_seqlens("f", Tensor(), 1, 7), "f: cu_seqlens is undefined, expected a tensor");
  CHECK_ERROR(checked_cu_seqlens("f", from_vector<float>({0, 7}), 1, 7),
              "f: cu_seqlens has dtype f32, expected i64 or i32");
  CHECK_ERROR(checked_cu_seqlens("f", from_vector<int64_t>({0, 7}, {1, 2}), 1, 7),
              "f: cu_seqlens has shape [1, 2], expected rank 1, [N + 1]");
  CHECK_ERROR(checked({0}), "f: cu_seqlens has shape [1], expected [N + 1] with at least one sequence");
  CHECK_ERROR(checked({0, 7}, 2), "f: the batch size is 2, expected B = 1 with cu_seqlens");
  CHECK_ERROR(checked({1, 7}), "f: cu_seqlens starts with 1, expected 0");
  CHECK_ERROR(checked({0, 5, 4, 7}), "f: cu_seqlens falls from 5 to 4 at entry 2, expected a non-decreasing list");
  CHECK_ERROR(checked({0, 8}), "f: cu_seqlens ends with 8, expected T = 7");
}

TEST_CASE("sequence_starts: the first step of each step's sequence") {
  const Tensor starts = sequence_starts({0, 2, 2, 5}, Device::cpu());
  CHECK(starts.shape() == Shape{1, 5});
  CHECK(starts.to_vector<int64_t>() == std::vector<int64_t>{0, 0, 2, 2, 2});
}
