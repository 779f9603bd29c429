#include "backends/cuda/kda/v2/kernel_launch.h"

namespace deltatape::cuda::kda::v2 {

template void launch_both_scans_of<64>(const Stream&, int, const v1::BothScansArguments&);

}  // namespace deltatape::cuda::kda::v2
