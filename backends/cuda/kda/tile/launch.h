// The one entry by which a kernel body is started.
//
// A kernel is a function object without state:
//   struct Scan {
//     struct Params { const BFloat16* w; .. };         // what a launch passes, by value
//     static constexpr int kWarps = 5;
//     static constexpr int kBlocksPerSm = 1;           // that registers are to suffice for
//     static constexpr int kSharedBytes = 148'480;
//     DT_DEVICE void operator()(const Block& block, const Params& p) const;
//   };
//   launch_warps<Scan>({slices, heads, sequences}, params, stream);
#pragma once

#include "backends/cuda/kda/tile/block.h"

#ifdef __CUDACC__
#include "backends/cuda/kda/tile/device/launch.h"
#else
#include "backends/cuda/kda/tile/host/launch.h"
#endif
