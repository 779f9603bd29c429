// The one door to launches. A body is a function object that nvcc compiles for the GPU and g++ for the host twin
// (backends/cuda/host): its operator() is const and DT_HD, and it is copied to where it runs, so it holds plain numbers
// and device pointers.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backends/cuda/hd.h"
#include "backends/cuda/runtime/place.h"
#include "backends/cuda/runtime/stream.h"
#include "core/error.h"

#ifdef __CUDACC__
#include <cuda_runtime.h>

#include "backends/cuda/runtime/check.h"
#include "backends/cuda/runtime/device.h"
#else
#include "backends/cuda/host/submit.h"
#endif

namespace deltatape::cuda {

/// How many blocks there are.
struct Grid {
  int64_t x = 1;  // below 2^31
  int64_t y = 1;  // below 2^16
  int64_t z = 1;
};

/// Which block a block program is, and its shared memory.
struct BlockContext {
  Grid grid;
  int64_t x = 0;
  int64_t y = 0;
  int64_t z = 0;
  int threads = 0;
  unsigned char* shared = nullptr;  // aligned to 1024 bytes; on the host filled with NaN bytes
};

namespace detail {

/// Throws Error for more blocks than a launch may have.
inline void check_grid(const char* function, Grid grid, Place where) {
  constexpr int64_t kMostX = (int64_t{1} << 31) - 1;
  constexpr int64_t kMostYZ = 65535;
  check(grid.x <= kMostX && grid.y <= kMostYZ && grid.z <= kMostYZ, function,
        "{}: the grid is {} x {} x {}, more than a launch may have", where.text(), grid.x, grid.y, grid.z);
}

inline constexpr int kElementThreads = 256;
inline constexpr size_t kSharedWithoutAsking = size_t{48} << 10;

#ifdef __CUDACC__

template <class Body>
__global__ void __launch_bounds__(kElementThreads) element_kernel(int64_t n, const __grid_constant__ Body body) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kElementThreads + threadIdx.x;
  if (i < n) {
    body(i);
  }
}

template <int max_threads, int min_blocks, class Body>
__global__ void __launch_bounds__(max_threads, min_blocks) block_kernel(const __grid_constant__ Body body) {
  extern __shared__ __align__(1024) unsigned char deltatape_shared[];
  BlockContext context;
  context.grid = {static_cast<int64_t>(gridDim.x), static_cast<int64_t>(gridDim.y), static_cast<int64_t>(gridDim.z)};
  context.x = blockIdx.x;
  context.y = blockIdx.y;
  context.z = blockIdx.z;
  context.threads = static_cast<int>(blockDim.x);
  context.shared = deltatape_shared;
  body(context);
}

#endif

}  // namespace detail

/// body(i) for every i in [0, n), in any order.
template <class Body>
void launch_elements(const Stream& stream, int64_t n, const Body& body, Place where = Place::here()) {
  if (n <= 0) {
    return;
  }
  const int64_t blocks = n / detail::kElementThreads + (n % detail::kElementThreads == 0 ? 0 : 1);
  detail::check_grid("launch_elements", {blocks}, where);
#ifdef __CUDACC__
  const DeviceGuard guard(stream.device());
  detail::element_kernel<<<static_cast<unsigned>(blocks), detail::kElementThreads, 0,
                           static_cast<cudaStream_t>(stream.handle())>>>(n, body);
  check_cuda(cudaGetLastError(), "launch", stream.device(), where);
#else
  host::submit(stream, where, [n, body] { host::for_each_in_order(n, body); });
#endif
}

/// body(context) for every block of `grid`, by `threads` threads each (a multiple of 32, at most `max_threads`) with
/// `shared_bytes` of dynamic shared memory. `min_blocks` that are to fit on a multiprocessor limit the registers.
/// On the host a block is one call: bodies go through collectives (backends/cuda/block.h, backends/cuda/kda/tile).
template <int max_threads = 256, int min_blocks = 1, class Body>
void launch_blocks(const Stream& stream, Grid grid, int threads, size_t shared_bytes, const Body& body,
                   Place where = Place::here()) {
  if (grid.x <= 0 || grid.y <= 0 || grid.z <= 0) {
    return;
  }
  detail::check_grid("launch_blocks", grid, where);
#ifdef __CUDACC__
  const DeviceGuard guard(stream.device());
  const auto kernel = detail::block_kernel<max_threads, min_blocks, Body>;
  if (shared_bytes > detail::kSharedWithoutAsking) {
    check_cuda(
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes)),
        "cudaFuncSetAttribute", stream.device(), where);
  }
  const dim3 blocks(static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y), static_cast<unsigned>(grid.z));
  kernel<<<blocks, static_cast<unsigned>(threads), shared_bytes, static_cast<cudaStream_t>(stream.handle())>>>(body);
  check_cuda(cudaGetLastError(), "launch", stream.device(), where);
#else
  host::check_block_launch(threads, max_threads, shared_bytes, where);
  host::submit(stream, where, [grid, threads, shared_bytes, body] {
    const host::SharedMemory shared(shared_bytes);
    host::for_each_in_order(grid.x * grid.y * grid.z, [&](int64_t block) {
      BlockContext context;
      context.grid = grid;
      context.x = block % grid.x;
      context.y = block / grid.x % grid.y;
      context.z = block / grid.x / grid.y;
      context.threads = threads;
      context.shared = shared.poisoned();
      body(context);
    });
    shared.check_end();
  });
#endif
}

}  // namespace deltatape::cuda
