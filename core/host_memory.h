// Where host blocks come from: malloc for small ones, a cache of large ones, since the system clears fresh pages at a
// cost that is several times that of the arithmetic of a small op.
#pragma once

#include <cstddef>

namespace deltatape {

/// `bytes` of memory aligned to 64 bytes, uninitialised; nullptr when there is none.
void* allocate_host(size_t bytes) noexcept;
/// Gives back a block from allocate_host; `bytes` as asked for.
void free_host(void* block, size_t bytes) noexcept;
/// Gives the large blocks that are kept for reuse back to the system.
void release_cached_host_memory() noexcept;

}  // namespace deltatape
