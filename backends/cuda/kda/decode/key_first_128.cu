#include "backends/cuda/kda/decode/start.h"

namespace deltatape::cuda::kda::decoding {

template void start<128, false>(const Stream&, const Size&, const Params&);

}  // namespace deltatape::cuda::kda::decoding
