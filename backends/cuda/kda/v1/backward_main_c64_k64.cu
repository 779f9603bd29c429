#include "backends/cuda/kda/v1/backward_kernels.h"

namespace deltatape::cuda::kda::v1 {

template void launch_main_of<64, 64>(const Stream&, int, const MainArguments&, int64_t);

}  // namespace deltatape::cuda::kda::v1
