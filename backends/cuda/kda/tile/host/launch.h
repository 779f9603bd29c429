// Launches on the host: blocks one after the other, in the order that the current Run says, or else the twin's
// schedule.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

#include "backends/cuda/host/schedule.h"
#include "backends/cuda/host/submit.h"
#include "backends/cuda/kda/tile/host/machine.h"
#include "core/error.h"

namespace deltatape::cuda::tile {
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

template <class Kernel>
void run_blocks(const WarpLaunch& size, const typename Kernel::Params& params) {
  const uint32_t launch = next_launch();
  const auto x = static_cast<int>(size.grid.x);
  const auto y = static_cast<int>(size.grid.y);
  Machine machine;
  for (const int i : block_order(static_cast<int>(size.grid.x * size.grid.y * size.grid.z))) {
    const BlockIndex index{i % x, i / x % y, i / x / y};
    machine.run_block(i, size.warps, size.shared_bytes, launch,
                      [&](int /*warp*/) { Kernel()(Block(index, size.warps), params); });
  }
}

template <class Kernel>
void check_size(const WarpLaunch& size, cuda::Place where) {
  constexpr int kMostShared = 232'448;  // of a block on sm_90
  constexpr int64_t kMostBlocks = int64_t{1} << 31;
  check(size.grid.x < kMostBlocks && size.grid.x * size.grid.y * size.grid.z < kMostBlocks && size.grid.y < 65536 &&
            size.grid.z < 65536,
        "tile::launch_warps", "{}: the grid is {} x {} x {}, more than a launch may have", where.text(), size.grid.x,
        size.grid.y, size.grid.z);
  check(size.warps > 0 && size.warps <= Kernel::kWarps && Kernel::kWarps <= kMaxWarps, "tile::launch_warps",
        "{}: warps is {}, expected 1 to {}", where.text(), size.warps, Kernel::kWarps);
  if constexpr (requires { Kernel::kSharedBytes; }) {
    check(size.warps == Kernel::kWarps, "tile::launch_warps", "{}: warps is {}, expected {}", where.text(), size.warps,
          Kernel::kWarps);
  }
  check(size.shared_bytes >= 0 && size.shared_bytes <= kMostShared, "tile::launch_warps",
        "{}: shared_bytes is {}, expected at most {}", where.text(), size.shared_bytes, kMostShared);
}

/// What a launch made now is run with.
inline Settings settings_now() {
  if (const Run* const run = Run::current(); run != nullptr) {
    return *run;
  }
  const auto schedule = cuda::host::schedule();
  using Blocks = cuda::host::Schedule::Blocks;
  const Order order = schedule.blocks == Blocks::forward    ? Order::round_robin
                      : schedule.blocks == Blocks::backward ? Order::reverse
                                                            : Order::random;
  return {.order = order, .seed = static_cast<uint32_t>(schedule.seed), .memory = nullptr};
}

}  // namespace host

/// Puts a kernel on a stream of the twin. Waiting for it throws Error for everything that the twin finds wrong.
template <class Kernel>
void launch_warps(const Stream& stream, const WarpLaunch& size, const typename Kernel::Params& params,
                  cuda::Place where = cuda::Place::here()) {
  if (size.grid.x <= 0 || size.grid.y <= 0 || size.grid.z <= 0) {
    return;
  }
  host::check_size<Kernel>(size, where);
  cuda::host::submit(stream, where, [size, params, settings = host::settings_now()] {
    const host::Run run(settings);
    host::run_blocks<Kernel>(size, params);
  });
}

/// Runs a kernel to its end, now.
template <class Kernel>
void run_warps(const WarpLaunch& size, const typename Kernel::Params& params, cuda::Place where = cuda::Place::here()) {
  if (size.grid.x > 0 && size.grid.y > 0 && size.grid.z > 0) {
    host::check_size<Kernel>(size, where);
    host::run_blocks<Kernel>(size, params);
  }
}
template <class Kernel>
void run_warps(Grid grid, const typename Kernel::Params& params, cuda::Place where = cuda::Place::here()) {
  run_warps<Kernel>(WarpLaunch{grid, Kernel::kWarps, Kernel::kSharedBytes}, params, where);
}

}  // namespace deltatape::cuda::tile
