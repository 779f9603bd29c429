// The memory of the twin's devices: one range of addresses that is closed to the host, so that host code which follows
// a device pointer ends in a fault as it would with a GPU.
#pragma once

#include <cstddef>

namespace deltatape::cuda::host {

/// A block, aligned to 256 bytes; not initialised. nullptr when the range is used up.
void* take_block(size_t bytes);
/// Gives back a block from take_block.
void put_block(void* block, size_t bytes) noexcept;
/// For a block that is freed: up to kKeptFree bytes of large ones keep their pages and contents. Those of further ones
/// go back to the system, and then the block reads as zeros, for opening and closing take time for every page that is
/// there. This is work of a stream, behind whatever uses the block.
inline constexpr size_t kKeptFree = size_t{256} << 20;
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
