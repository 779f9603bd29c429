// Starts a kernel of v1 on a stream: launch_warps of the tile layer, with warps and shared memory chosen by the call.
#pragma once

#include <cstdint>

#include "backends/cuda/kda/tile/launch.h"
#include "backends/cuda/runtime/stream.h"

#ifdef __CUDACC__
#include "backends/cuda/runtime/check.h"
#include "backends/cuda/runtime/device.h"
#else
#include "backends/cuda/host/submit.h"
#endif

namespace deltatape::cuda::kda::v1 {

/// How a kernel is started.
struct LaunchSize {
  int64_t blocks = 0;
  int warps = 0;         // at most Kernel::kWarps
  int shared_bytes = 0;  // dynamic shared memory
};

#ifdef __CUDACC__

/// `kBlocksPerSm` blocks of `kWarps` warps are to find registers on a multiprocessor.
template <class Kernel>
__global__ void __launch_bounds__(Kernel::kWarps* tile::kLanes, Kernel::kBlocksPerSm)
    kda_kernel(const __grid_constant__ typename Kernel::Params params) {
  Kernel()(tile::Block({static_cast<int>(blockIdx.x), 0, 0}, static_cast<int>(blockDim.x) / tile::kLanes), params);
}

#endif

/// Kernel()(block, params) for blocks 0 .. size.blocks - 1.
template <class Kernel>
void launch(const Stream& stream, const LaunchSize& size, const typename Kernel::Params& params,
            Place where = Place::here()) {
  if (size.blocks == 0) {
    return;
  }
#ifdef __CUDACC__
  const DeviceGuard guard(stream.device());
  check_cuda(cudaFuncSetAttribute(kda_kernel<Kernel>, cudaFuncAttributeMaxDynamicSharedMemorySize, size.shared_bytes),
             "cudaFuncSetAttribute", stream.device(), where);
  kda_kernel<Kernel><<<static_cast<unsigned>(size.blocks), static_cast<unsigned>(size.warps * tile::kLanes),
                       static_cast<size_t>(size.shared_bytes), static_cast<cudaStream_t>(stream.handle())>>>(params);
  check_cuda(cudaGetLastError(), "launch", stream.device(), where);
#else
  check(size.warps > 0 && size.warps <= Kernel::kWarps, "kda::v1::launch", "warps is {}, expected 1 to {}", size.warps,
        Kernel::kWarps);
  host::submit(stream, where, [size, params] {
    const uint32_t number = tile::host::next_launch();
    tile::host::Machine machine;
    for (const int i : tile::host::block_order(static_cast<int>(size.blocks))) {
      machine.run_block(i, size.warps, size.shared_bytes, number, [&](int /*warp*/) {
        Kernel()(tile::Block({i, 0, 0}, size.warps), params);
      });
    }
  });
#endif
}

}  // namespace deltatape::cuda::kda::v1
