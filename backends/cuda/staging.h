// Copies of tensors from the host. Host memory is pageable: a driver that is given a large piece of it waits for the
// stream before it begins. So large copies go through pinned memory of a bounded size, piece by piece, and while one
// piece is on its way the host copies the next. The way back is copy_to_host (core/device_memory.h).
#pragma once

#include <cstddef>

#include "core/device.h"

namespace deltatape::cuda {

/// Copies up to this size are left to the driver, which takes them in without waiting.
inline constexpr size_t kStagedFrom = size_t{64} << 10;
/// A device has so much pinned memory for each direction, in pieces of its own: taken when first needed, and kept.
inline constexpr size_t kStagingPiece = size_t{1} << 20;
inline constexpr size_t kStagingPieces = 8;

/// Copies `bytes` of host memory to `device`, in the order of this thread's stream there. When it returns, the host's
/// memory may be changed; the copy itself may be yet to come. Copies take whole pieces in
/// turn: it waits only for the copy that last used its piece.
void copy_from_host(void* to, const void* from, size_t bytes, Device device);

}  // namespace deltatape::cuda
