// The host twin of device/block.h.
#pragma once

#include "backends/cuda/kda/tile/host/machine.h"
#include "backends/cuda/kda/tile/host/shared_memory.h"
#include "backends/cuda/kda/tile/target.h"
#include "backends/cuda/runtime/place.h"

namespace deltatape::cuda::tile {

struct BlockIndex {
  int x;
  int y;
  int z;
};

inline int warp_of_block() { return host::Machine::get().warp(); }

template <class Team>
void check_member(const Team& team) {
  check(team.contains_me(), "tile", "warp {} works in a team of {} warps that it does not belong to", warp_of_block(),
        team.warps());
}

inline void meet(int barrier, int warps, cuda::Place where) {
  host::Machine& machine = host::Machine::get();
  check(barrier != 0 || warps == machine.warps(), "tile",
        "barrier 0 is used for {} of {} warps, expected a number of "
        "the team's own",
        warps, machine.warps());
  machine.barrier(barrier, warps, where);
}

template <class T>
SharedPointer<T> shared_memory(int offset, int bytes) {
  const int all = host::Machine::get().shared.bytes();
  check(offset >= 0 && offset % 16 == 0 && offset + bytes <= all, "tile",
        "a view takes bytes {} to {} of shared memory, expected a multiple of 16 and at most {}", offset,
        offset + bytes, all);
  return SharedPointer<T>(offset);
}

}  // namespace deltatape::cuda::tile
