#include "backends/cuda/kda/v1/prep_launch.h"

namespace deltatape::cuda::kda::v1 {

template void launch_prep_of_length<32>(const Stream&, const PrepKind&, const PrepArguments&, int64_t);

}  // namespace deltatape::cuda::kda::v1
