// What the warps of a warpgroup have begun on their tensor cores.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "backends/cuda/kda/tile/target.h"

namespace deltatape::cuda::tile::host {

/// The registers of a left operand, of all lanes.
using OperandBits = std::array<std::array<uint32_t, 4>, kLanes>;

/// What the last fence found in a left operand, and how many products under way read it.
struct LeftOperand {
  OperandBits bits{};
  int readers = 0;
};

/// Products that a warp has begun and not waited for, and what its last fences were told.
struct WarpgroupWork {
  struct Product {
    uint32_t group = 0;            // of commits
    std::function<void()> finish;  // computes it
  };
  std::vector<Product> begun;
  uint32_t group = 0;                       // that products join
  uint32_t uncommitted = 0;                 // products since the last commit
  std::map<const void*, LeftOperand> left;  // by place
  size_t issued = 0;                        // products, commits and waits so far
};

/// The same for all four warps: what the warpgroup executes together.
struct WarpgroupStep {
  uint64_t what = 0;
  uint64_t detail = 0;
  bool operator==(const WarpgroupStep&) const = default;
};

}  // namespace deltatape::cuda::tile::host
