// Launches on the GPU.
#pragma once

#include <cuda_runtime_api.h>

#include "backends/cuda/kda/tile/block.h"
#include "core/error.h"

namespace deltatape::cuda::tile {

/// How many blocks.
struct Grid {
  int x = 1;
  int y = 1;
  int z = 1;
};

template <class Kernel>
__global__ void __launch_bounds__(Kernel::kWarps* kLanes, Kernel::kBlocksPerSm)
    warp_kernel(const __grid_constant__ typename Kernel::Params params) {
  Kernel()(
      Block({static_cast<int>(blockIdx.x), static_cast<int>(blockIdx.y), static_cast<int>(blockIdx.z)}, Kernel::kWarps),
      params);
}

/// Starts a kernel on a stream. Throws Error when CUDA refuses.
template <class Kernel>
void launch_warps(Grid grid, const typename Kernel::Params& params, cudaStream_t stream) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) {
    return;
  }
  const auto check_cuda = [](cudaError_t error) {
    check(error == cudaSuccess, "tile::launch_warps", "CUDA reports: {}", cudaGetErrorString(error));
  };
  check_cuda(
      cudaFuncSetAttribute(warp_kernel<Kernel>, cudaFuncAttributeMaxDynamicSharedMemorySize, Kernel::kSharedBytes));
  warp_kernel<Kernel>
      <<<dim3(static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y), static_cast<unsigned>(grid.z)),
         Kernel::kWarps * kLanes, Kernel::kSharedBytes, stream>>>(params);
  check_cuda(cudaGetLastError());
}

}  // namespace deltatape::cuda::tile
