// What core needs from a backend with memory of its own. Defined by backends/cuda/runtime, and by backends/no_cuda.cpp
// in a build without CUDA.
#pragma once

#include <cstddef>

#include "core/device.h"

namespace deltatape {

/// Uninitialised memory on a CUDA device, in the order of its current stream (backends/cuda/runtime/stream.h); nullptr
/// for 0 bytes. Throws Error that says how much was asked for, used and free.
void* allocate_on_device(size_t bytes, Device device);
/// Gives back a block from allocate_on_device once the work that is already on the current stream has been done.
void free_on_device(void* data, size_t bytes, Device device) noexcept;
/// Copies from a CUDA device's memory to the host's, after the work that is already on the current stream. Copies over
/// 64 KiB of one device come one after another: while one waits for its stream, those of other threads wait too.
void copy_to_host(void* to, const void* from, size_t bytes, Device device);
/// Whether this thread's work on the device is being recorded (backends/cuda/runtime/graph.h) instead of done, so that
/// nothing can be read back from it.
bool is_recording(Device device);

}  // namespace deltatape
