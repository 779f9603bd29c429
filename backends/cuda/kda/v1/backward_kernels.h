// The kernels of v1's backward for sizes known at run time. Compiled in backward_main_c64.cu, backward_main_c32.cu and
// backward_scans.cu.
#pragma once

#include <cstdint>

#include "backends/cuda/kda/v1/backward_main.h"
#include "backends/cuda/kda/v1/reverse_scan.h"
#include "backends/cuda/kda/v1/sizes.h"
#include "backends/cuda/runtime/stream.h"

namespace deltatape::cuda::kda::v1 {

/// B2 for `pairs` sequences times heads. C is 32 or 64, and has_channels(K); `warps` take 16 of V each.
void launch_both_scans(const Stream& stream, int C, int K, int warps, BothScansArguments p, int64_t pairs);

/// B3 for `chunks` chunks and p.heads value heads; V is 64 or 128.
void launch_main(const Stream& stream, int C, int K, int V, const MainArguments& p, int64_t chunks);
/// Bytes of shared memory that it takes.
int main_shared_bytes(int C, int K, int V);

/// f with K and V as constants.
template <class F>
void with_head(int K, int V, F&& f) {
  with_channels(K, [&]<int kChannels>() {
    if (V == 64) {
      f.template operator()<kChannels, 64>();
    } else {
      f.template operator()<kChannels, 128>();
    }
  });
}

/// launch_main for one chunk length: compiled in a file of its own per length.
template <int C>
void launch_main_of_length(const Stream& stream, int K, int V, const MainArguments& p, int64_t chunks) {
  with_head(K, V, [&]<int kChannels, int kValues>() {
    tile::launch_warps<BackwardMain<C, kChannels, kValues>>(stream, Grid{static_cast<int>(chunks * p.heads)}, p);
  });
}
extern template void launch_main_of_length<64>(const Stream&, int, int, const MainArguments&, int64_t);
extern template void launch_main_of_length<32>(const Stream&, int, int, const MainArguments&, int64_t);

}  // namespace deltatape::cuda::kda::v1
