#include "backends/cuda/kda/v1/backward_kernels.h"

namespace deltatape::cuda::kda::v1 {

template void launch_both_scans_of<64, 128>(const Stream&, const tile::WarpLaunch&, const BothScansArguments&);
template void launch_both_scans_of<32, 128>(const Stream&, const tile::WarpLaunch&, const BothScansArguments&);

}  // namespace deltatape::cuda::kda::v1
