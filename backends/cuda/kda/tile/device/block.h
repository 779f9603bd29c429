// Blocks and barriers of the GPU.
#pragma once

#include "backends/cuda/kda/tile/device/shared_memory.h"
#include "backends/cuda/kda/tile/target.h"
#include "backends/cuda/runtime/place.h"

namespace deltatape::cuda::tile {

class Team;

struct BlockIndex {
  int x;
  int y;
  int z;
};

DT_DEVICE int warp_of_block() { return static_cast<int>(threadIdx.x / kLanes); }
DT_DEVICE void check_member(const Team& /*team*/) {}

DT_DEVICE void meet(int barrier, int warps, cuda::Place /*where*/) {
  if (barrier == 0) {
    __syncthreads();
  } else {
    asm volatile("bar.sync %0, %1;" : : "r"(barrier), "r"(warps * kLanes) : "memory");
  }
}

template <class T>
DT_DEVICE SharedPointer<T> shared_memory(int offset, int /*bytes*/) {
  extern __shared__ __align__(1024) uint4 block_memory[];  // 1024: kPanelAlignment
  return SharedPointer<T>(reinterpret_cast<T*>(reinterpret_cast<char*>(block_memory) + offset));
}

}  // namespace deltatape::cuda::tile
