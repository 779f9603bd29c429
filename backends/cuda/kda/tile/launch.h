// The one entry by which a kernel body is started.
//
// A kernel is a function object without state:
//   struct Scan {
//     struct Params { const BFloat16* w; .. };         // what a launch passes, by value
//     static constexpr int kWarps = 5;                 // of a block, at most
//     static constexpr int kBlocksPerSm = 1;           // that registers are to suffice for
//     static constexpr int kSharedBytes = 148'480;
//     DT_DEVICE void operator()(const Block& block, const Params& p) const;
//   };
//   launch_warps<Scan>(stream, {slices, heads, sequences}, params);
//   launch_warps<Scan>(stream, WarpLaunch{.grid = {blocks}, .warps = 4, .shared_bytes = bytes}, params);
// Tests start kernels on the host without a stream: run_warps<Scan>({slices, heads, sequences}, params).
#pragma once

#include "backends/cuda/kda/tile/block.h"
#include "backends/cuda/launch.h"

namespace deltatape::cuda::tile {

/// The size of a launch. `warps` per block, at most Kernel::kWarps; `shared_bytes` of dynamic shared memory per block.
struct WarpLaunch {
  Grid grid;
  int warps = 0;
  int shared_bytes = 0;
};

}  // namespace deltatape::cuda::tile

#ifdef __CUDACC__
#include "backends/cuda/kda/tile/device/launch.h"
#else
#include "backends/cuda/kda/tile/host/launch.h"
#endif

namespace deltatape::cuda::tile {

/// The same with the warps and the shared memory that the kernel names itself.
template <class Kernel>
void launch_warps(const Stream& stream, Grid grid, const typename Kernel::Params& params,
                  cuda::Place where = cuda::Place::here()) {
  launch_warps<Kernel>(stream, WarpLaunch{grid, Kernel::kWarps, Kernel::kSharedBytes}, params, where);
}

}  // namespace deltatape::cuda::tile
