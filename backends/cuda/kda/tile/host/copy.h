// The host twin of device/copy.h: what is copied arrives at the wait and not before.
#pragma once

#include <cstring>
#include <utility>
#include <vector>

#include "backends/cuda/kda/tile/host/global_memory.h"
#include "backends/cuda/kda/tile/host/machine.h"
#include "backends/cuda/kda/tile/host/shared_memory.h"
#include "backends/cuda/kda/tile/target.h"

namespace deltatape::cuda::tile {
namespace host {

/// A copy of 16 bytes by the lane that acts, begun and not ended.
template <class T, class U>
PendingCopy begin_copy_16_bytes(SharedPointer<T> to, GlobalPointer<U> from, int bytes) {
  Machine& machine = Machine::get();
  check(machine.lane() != kWholeWarp, "tile", "copy_16_bytes is used outside of per-lane code");
  check(to.byte() % 16 == 0, "tile", "an asynchronous copy goes to byte {} of shared memory, expected a multiple of 16",
        to.byte());
  PendingCopy copy{.lane = machine.lane(), .offset = to.byte(), .data = std::vector<std::byte>(16), .group = 0};
  if (bytes > 0) {
    check(reinterpret_cast<uintptr_t>(from.data()) % 16 == 0, "tile",
          "an asynchronous copy starts at an address that is no multiple of 16");
    from.check_copied(bytes);
    std::memcpy(copy.data.data(), from.data(), static_cast<size_t>(bytes));
  }
  machine.shared.begin_copy(machine.actor(), copy.offset, 16);
  return copy;
}

}  // namespace host

template <class T, class U>
void copy_16_bytes(SharedPointer<T> to, GlobalPointer<U> from, int bytes) {
  host::PendingCopy copy = host::begin_copy_16_bytes(to, from, bytes);
  host::Machine::Warp& warp = host::Machine::get().self();
  copy.group = warp.copy_group;
  warp.copies.push_back(std::move(copy));
}

inline void commit_copies() {
  host::Machine& machine = host::Machine::get();
  machine.check_whole_warp("commit_copies");
  ++machine.self().copy_group;
}

template <int n>
void wait_copies() {
  host::Machine& machine = host::Machine::get();
  machine.check_whole_warp("wait_copies");
  std::vector<host::PendingCopy> left;
  for (host::PendingCopy& copy : machine.self().copies) {
    if (copy.group + n < machine.self().copy_group) {
      machine.shared.end_copy(machine.actor(copy.lane), copy.offset, 16, copy.data.data());
    } else {
      left.push_back(std::move(copy));
    }
  }
  machine.self().copies = std::move(left);
}

}  // namespace deltatape::cuda::tile
