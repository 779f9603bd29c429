// The memory of the twin's devices: one range of addresses that is closed to the host, so that host code which follows
// a device pointer ends in a fault as it would with a GPU.
#pragma once

#include <cstddef>

namespace deltatape::cuda::host {

/// A block, aligned to 256 bytes; not initialised. nullptr when the range is used up.
void* take_block(size_t bytes);
/// Gives back a block from take_block.
void put_block(void* block, size_t bytes) noexcept;
/// Gives the pages of a large block back to the system, for opening and closing take time for every page that is there.
/// Its contents are lost, so this is work of a stream, behind whatever uses the block.
void give_back_pages(void* block, size_t bytes) noexcept;

/// While one lives, memory of the devices may be touched.
class OpenArena {
 public:
  OpenArena();
  ~OpenArena();
  OpenArena(const OpenArena&) = delete;
  OpenArena& operator=(const OpenArena&) = delete;
};

}  // namespace deltatape::cuda::host
