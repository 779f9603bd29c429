// The kernels for segments for sizes known at run time.
#pragma once

#include "backends/cuda/kda/v1/segment_scans.h"
#include "backends/cuda/runtime/stream.h"

namespace deltatape::cuda::kda::v1 {

/// SegmentScans in `blocks` blocks of `warps` warps. C is 32 or 64, and has_channels(K); stages as in p.ends.
void launch_segment_scans(const Stream& stream, int C, int K, int warps, int64_t blocks, const SegmentArguments& p);
/// SegmentMerge of p.count chains, in both directions where there are gradients.
void launch_merge(const Stream& stream, int K, const MergeArguments& p);

/// The same for sizes that the compiler knows. Compiled in segment_scans_k*.cu.
template <int C, int K>
void launch_segment_scans_of(const Stream& stream, const tile::WarpLaunch& size, const SegmentArguments& p) {
  tile::launch_warps<SegmentScans<C, K>>(stream, size, p);
}
template <int K>
void launch_merge_of(const Stream& stream, Grid grid, const MergeArguments& p) {
  tile::launch_warps<SegmentMerge<K>>(stream, grid, p);
}
extern template void launch_segment_scans_of<64, 128>(const Stream&, const tile::WarpLaunch&, const SegmentArguments&);
extern template void launch_segment_scans_of<64, 64>(const Stream&, const tile::WarpLaunch&, const SegmentArguments&);
extern template void launch_segment_scans_of<32, 128>(const Stream&, const tile::WarpLaunch&, const SegmentArguments&);
extern template void launch_segment_scans_of<32, 64>(const Stream&, const tile::WarpLaunch&, const SegmentArguments&);
extern template void launch_merge_of<128>(const Stream&, Grid, const MergeArguments&);
extern template void launch_merge_of<64>(const Stream&, Grid, const MergeArguments&);

}  // namespace deltatape::cuda::kda::v1
