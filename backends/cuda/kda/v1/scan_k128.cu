#include "backends/cuda/kda/v1/kernel_launch.h"

namespace deltatape::cuda::kda::v1 {

template void launch_scan_of<64, 128>(const Stream&, const ScanKind&, const ScanArguments&, int64_t);
template void launch_scan_of<32, 128>(const Stream&, const ScanKind&, const ScanArguments&, int64_t);

}  // namespace deltatape::cuda::kda::v1
