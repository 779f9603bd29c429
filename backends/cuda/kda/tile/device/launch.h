// Launches on the GPU.
#pragma once

#include "backends/cuda/runtime/check.h"
#include "backends/cuda/runtime/device.h"
#include "core/error.h"

namespace deltatape::cuda::tile {

/// `fixed`: blocks have Kernel::kWarps warps, which the compiler may count on.
template <class Kernel, bool fixed>
__global__ void __launch_bounds__(Kernel::kWarps* kLanes, Kernel::kBlocksPerSm)
    warp_kernel(const __grid_constant__ typename Kernel::Params params) {
  const int warps = fixed ? Kernel::kWarps : static_cast<int>(blockDim.x) / kLanes;
  Kernel()(Block({static_cast<int>(blockIdx.x), static_cast<int>(blockIdx.y), static_cast<int>(blockIdx.z)}, warps),
           params);
}

template <class Kernel, bool fixed>
void start_warps(const Stream& stream, const WarpLaunch& size, const typename Kernel::Params& params,
                 cuda::Place where) {
  const auto kernel = warp_kernel<Kernel, fixed>;
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, size.shared_bytes),
             "cudaFuncSetAttribute", stream.device(), where);
  const dim3 blocks(static_cast<unsigned>(size.grid.x), static_cast<unsigned>(size.grid.y),
                    static_cast<unsigned>(size.grid.z));
  kernel<<<blocks, static_cast<unsigned>(size.warps * kLanes), static_cast<size_t>(size.shared_bytes),
           static_cast<cudaStream_t>(stream.handle())>>>(params);
  check_cuda(cudaGetLastError(), "launch", stream.device(), where);
}

/// Starts a kernel on a stream; nothing where a side of the grid is 0. Throws Error when it
/// has more blocks than a launch may have, and when CUDA refuses.
template <class Kernel>
void launch_warps(const Stream& stream, const WarpLaunch& size, const typename Kernel::Params& params,
                  cuda::Place where = cuda::Place::here()) {
  if (size.grid.x <= 0 || size.grid.y <= 0 || size.grid.z <= 0) {
    return;
  }
  detail::check_grid("tile::launch_warps", size.grid, where);
  const DeviceGuard guard(stream.device());
  if constexpr (requires { Kernel::kSharedBytes; }) {  // a kernel that does not name it is launched in several sizes
    if (size.warps == Kernel::kWarps) {
      start_warps<Kernel, true>(stream, size, params, where);
      return;
    }
    check(false, "tile::launch_warps", "warps is {}, expected {}", size.warps, Kernel::kWarps);
  } else {
    start_warps<Kernel, false>(stream, size, params, where);
  }
}

}  // namespace deltatape::cuda::tile
