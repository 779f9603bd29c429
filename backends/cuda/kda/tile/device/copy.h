// PTX of asynchronous copies.
#pragma once

#include "backends/cuda/kda/tile/device/global_memory.h"
#include "backends/cuda/kda/tile/device/shared_memory.h"
#include "backends/cuda/kda/tile/target.h"

namespace deltatape::cuda::tile {

/// 16 bytes to shared memory; the first `bytes` come from global memory, the others are 0.
template <class T, class U>
DT_DEVICE void copy_16_bytes(SharedPointer<T> to, GlobalPointer<U> from, int bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
               :
               : "r"(to.address()), "l"(__cvta_generic_to_global(from.data())), "r"(bytes)
               : "memory");
}

/// Closes the group of copies that were begun since the last.
DT_DEVICE void commit_copies() { asm volatile("cp.async.commit_group;" : : : "memory"); }

/// Waits until at most `n` of the last groups are under way. Each lane waits for its own copies: others may look at
/// them after a barrier (sync_warp inside a warp).
template <int n>
DT_DEVICE void wait_copies() {
  asm volatile("cp.async.wait_group %0;" : : "n"(n) : "memory");
}

}  // namespace deltatape::cuda::tile
