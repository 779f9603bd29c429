// Launches on the host: blocks one after the other, in the order that the current Run says.
#pragma once

#include <algorithm>
#include <cstddef>
#include <random>
#include <vector>

#include "backends/cuda/kda/tile/block.h"
#include "backends/cuda/kda/tile/host/machine.h"
#include "core/error.h"

namespace deltatape::cuda::tile {

struct Grid {
  int x = 1;
  int y = 1;
  int z = 1;
};

namespace host {

/// The order of `count` blocks.
inline std::vector<int> block_order(int count) {
  std::vector<int> blocks(static_cast<size_t>(count));
  for (size_t i = 0; i < blocks.size(); ++i) {
    blocks[i] = static_cast<int>(i);
  }
  const Run* const run = Run::current();
  if (run != nullptr && run->order == Order::reverse) {
    std::reverse(blocks.begin(), blocks.end());
  } else if (run != nullptr && run->order == Order::random) {
    std::shuffle(blocks.begin(), blocks.end(), std::minstd_rand(run->seed + 1));
  }
  return blocks;
}

/// Numbers launches, so that a buffer's last use can be told from this launch's.
inline uint32_t next_launch() {
  static thread_local uint32_t launches = 0;
  return ++launches;
}

}  // namespace host

/// Runs a kernel to its end; the stream means nothing. Throws Error for everything that the twin finds wrong.
template <class Kernel>
void launch_warps(Grid grid, const typename Kernel::Params& params, void* /*stream*/ = nullptr) {
  check(grid.x >= 0 && grid.y >= 0 && grid.z >= 0, "tile::launch_warps", "grid is {} x {} x {}, expected no negative",
        grid.x, grid.y, grid.z);
  const uint32_t launch = host::next_launch();
  host::Machine machine;
  for (const int i : host::block_order(grid.x * grid.y * grid.z)) {
    const BlockIndex index{i % grid.x, i / grid.x % grid.y, i / grid.x / grid.y};
    machine.run_block(i, Kernel::kWarps, Kernel::kSharedBytes, launch,
                      [&](int /*warp*/) { Kernel()(Block(index, Kernel::kWarps), params); });
  }
}

}  // namespace deltatape::cuda::tile
