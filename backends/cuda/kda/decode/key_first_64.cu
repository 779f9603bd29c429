#include "backends/cuda/kda/decode/start.h"

namespace deltatape::cuda::kda::decoding {

template void start<64, false>(const Stream&, const Size&, const Params&);

}  // namespace deltatape::cuda::kda::decoding
