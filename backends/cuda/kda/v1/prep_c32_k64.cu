#include "backends/cuda/kda/v1/kernel_launch.h"

namespace deltatape::cuda::kda::v1 {

template void launch_prep_of<32, 64>(const Stream&, const PrepKind&, const PrepArguments&, int64_t);

}  // namespace deltatape::cuda::kda::v1
