#include "backends/cuda/kda/v2/kernel_launch.h"

namespace deltatape::cuda::kda::v2 {

void launch_prep_k128(const Stream& stream, const v1::PrepKind& kind, const v1::PrepArguments& p, int64_t chunks) {
  if (kind.centred) {
    kind.solve ? launch_prep_of<128, true, true>(stream, p, chunks)
               : launch_prep_of<128, true, false>(stream, p, chunks);
  } else {
    kind.solve ? launch_prep_of<128, false, true>(stream, p, chunks)
               : launch_prep_of<128, false, false>(stream, p, chunks);
  }
}

}  // namespace deltatape::cuda::kda::v2
