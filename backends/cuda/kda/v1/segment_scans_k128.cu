#include "backends/cuda/kda/v1/segment_kernels.h"

namespace deltatape::cuda::kda::v1 {

template void launch_segment_scans_of<64, 128>(const Stream&, const tile::WarpLaunch&, const SegmentArguments&);
template void launch_segment_scans_of<32, 128>(const Stream&, const tile::WarpLaunch&, const SegmentArguments&);
template void launch_merge_of<128>(const Stream&, Grid, const MergeArguments&);

}  // namespace deltatape::cuda::kda::v1
