// Launches of block programs (block.h).
#pragma once

#include <algorithm>
#include <cstdint>

#include "backends/cuda/block.h"
#include "backends/cuda/launch.h"
#include "backends/cuda/runtime/place.h"

namespace deltatape::cuda {
namespace detail {

/// Warps that a block of the GPU consists of when the program's blocks are warps.
inline constexpr int kWarpsTogether = 4;

/// How a block of the GPU plays the blocks of a program: one or, where these are warps, some side by side; and further
/// ones after these when there are more than a launch may have.
template <int kThreads, class Body>
struct Program {
  static constexpr int kTogether = kThreads == kWarp ? kWarpsTogether : 1;
  Body body;
  int64_t count;
  int64_t shared;  // bytes per block of the program, its scratch included

  DT_HD void operator()(const BlockContext& context) const {
#ifdef __CUDACC__
    const int place = thread_index() / kThreads;
    for (int64_t i = context.x * kTogether + place; i < count; i += context.grid.x * kTogether) {
      Block<kThreads> block(i, context.shared + place * shared);
      body(block);
    }
#else
    for (int64_t first = context.x * kTogether; first < count; first += context.grid.x * kTogether) {
      for (int64_t i = first; i < std::min(count, first + kTogether); ++i) {
        Block<kThreads> block(i, shared);
        body(block);
      }
    }
#endif
  }
};

}  // namespace detail

/// Runs a body for blocks 0 to count - 1 of kThreads threads each. `shared` is the sum of shared_bytes<T>(..) over what
/// the body takes. `min_blocks` that are to fit on a multiprocessor limit the registers.
template <int kThreads, int min_blocks = 1, class Body>
void launch_program(const Stream& stream, int64_t count, int64_t shared, const Body& body,
                    Place where = Place::here()) {
  constexpr int kTogether = detail::Program<kThreads, Body>::kTogether;
  constexpr int64_t kMostBlocks = (int64_t{1} << 31) - 1;
  const int64_t bytes = Block<kThreads>::kScratch + shared;
  const detail::Program<kThreads, Body> program{body, count, bytes};
  launch_blocks<kThreads * kTogether, min_blocks>(stream, {std::min((count + kTogether - 1) / kTogether, kMostBlocks)},
                                                  kThreads * kTogether, static_cast<size_t>(bytes * kTogether), program,
                                                  where);
}

}  // namespace deltatape::cuda
