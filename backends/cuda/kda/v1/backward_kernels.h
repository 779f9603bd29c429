// The kernels of v1's backward for sizes known at run time.
#pragma once

#include <cstdint>

#include "backends/cuda/kda/v1/backward_main.h"
#include "backends/cuda/kda/v1/kernels.h"
#include "backends/cuda/kda/v1/reverse_scan.h"
#include "backends/cuda/kda/v1/sizes.h"
#include "backends/cuda/runtime/stream.h"

namespace deltatape::cuda::kda::v1 {

/// B2 for `pairs` sequences times heads. C is 32 or 64, and has_channels(K); `warps` take 16 of V each.
void launch_both_scans(const Stream& stream, int C, int K, int warps, BothScansArguments p, int64_t pairs);

/// The kernels of B1 and B2 that backward starts: v1's, or others that do the same with records of their own.
struct BackwardKernels {
  void (*prep)(const Stream&, const PrepKind&, const PrepArguments&, int64_t chunks) = launch_prep;
  void (*both_scans)(const Stream&, int C, int K, int warps, BothScansArguments, int64_t pairs) = launch_both_scans;
};

/// B3 for `chunks` chunks and p.heads value heads; V is 64 or 128.
void launch_main(const Stream& stream, int C, int K, int V, const MainArguments& p, int64_t chunks);
/// Bytes of shared memory that it takes.
int main_shared_bytes(int C, int K, int V);

/// launch_main and launch_both_scans for sizes that the compiler knows. Compiled in backward_main_c*_k*.cu and
/// backward_scans_k*.cu.
template <int C, int K>
void launch_main_of(const Stream& stream, int V, const MainArguments& p, int64_t chunks) {
  constexpr int kMostShared = 227 * 1024;  // of a block on sm_90
  static_assert(BackwardMain<C, K, 64>::kSharedBytes <= kMostShared);
  static_assert(BackwardMain<C, K, 128>::kSharedBytes <= kMostShared);
  const Grid grid{static_cast<int>(chunks * p.heads)};
  if (V == 64) {
    tile::launch_warps<BackwardMain<C, K, 64>>(stream, grid, p);
  } else {
    tile::launch_warps<BackwardMain<C, K, 128>>(stream, grid, p);
  }
}
template <int C, int K>
void launch_both_scans_of(const Stream& stream, const tile::WarpLaunch& size, const BothScansArguments& p) {
  tile::launch_warps<BothScans<C, K>>(stream, size, p);
}
extern template void launch_main_of<64, 128>(const Stream&, int, const MainArguments&, int64_t);
extern template void launch_main_of<64, 64>(const Stream&, int, const MainArguments&, int64_t);
extern template void launch_main_of<32, 128>(const Stream&, int, const MainArguments&, int64_t);
extern template void launch_main_of<32, 64>(const Stream&, int, const MainArguments&, int64_t);
extern template void launch_both_scans_of<64, 128>(const Stream&, const tile::WarpLaunch&, const BothScansArguments&);
extern template void launch_both_scans_of<64, 64>(const Stream&, const tile::WarpLaunch&, const BothScansArguments&);
extern template void launch_both_scans_of<32, 128>(const Stream&, const tile::WarpLaunch&, const BothScansArguments&);
extern template void launch_both_scans_of<32, 64>(const Stream&, const tile::WarpLaunch&, const BothScansArguments&);

}  // namespace deltatape::cuda::kda::v1
