#include "backends/cuda/kda/v1/backward_kernels.h"
#include "backends/cuda/kda/v1/kernels.h"

namespace deltatape::cuda::kda::v1 {

void launch_both_scans(const Stream& stream, int C, int K, int warps, BothScansArguments p, int64_t pairs) {
  p.forward_blocks = static_cast<int>(pairs * p.forward.slices);
  const tile::WarpLaunch size{Grid{2 * p.forward_blocks}, warps,
                              scan_shared_bytes(C, K, warps, p.forward.stages)};
  with_channels(K, [&]<int kChannels>() {
    if (C == 64) {
      tile::launch_warps<BothScans<64, kChannels>>(stream, size, p);
    } else {
      tile::launch_warps<BothScans<32, kChannels>>(stream, size, p);
    }
  });
}

}  // namespace deltatape::cuda::kda::v1
