#include "backends/cuda/kda/v2/kernel_launch.h"

namespace deltatape::cuda::kda::v2 {

template void launch_scan_of<128>(const Stream&, int, const ScanArguments&, int64_t);

}  // namespace deltatape::cuda::kda::v2
