// launch_prep for one chunk length: its kernels are compiled in a file of their own per length.
#pragma once

#include "backends/cuda/kda/v1/kernels.h"
#include "backends/cuda/kda/v1/sizes.h"

namespace deltatape::cuda::kda::v1 {

template <class Shape>
void launch_prep_of(const Stream& stream, const PrepArguments& p, int64_t chunks) {
  using Kernel = Prep<Shape>;
  tile::launch_warps<Kernel>(stream, Grid{chunks * p.heads, 1, 1}, p);
}

template <int C>
void launch_prep_of_length(const Stream& stream, const PrepKind& kind, const PrepArguments& p, int64_t chunks) {
  with_channels(kind.K, [&]<int K>() {
    if (kind.centred) {
      kind.solve ? launch_prep_of<PrepShape<C, K, true, true>>(stream, p, chunks)
                 : launch_prep_of<PrepShape<C, K, true, false>>(stream, p, chunks);
    } else {
      kind.solve ? launch_prep_of<PrepShape<C, K, false, true>>(stream, p, chunks)
                 : launch_prep_of<PrepShape<C, K, false, false>>(stream, p, chunks);
    }
  });
}

// Compiled in prep_c64.cu and prep_c32.cu.
extern template void launch_prep_of_length<64>(const Stream&, const PrepKind&, const PrepArguments&, int64_t);
extern template void launch_prep_of_length<32>(const Stream&, const PrepKind&, const PrepArguments&, int64_t);

}  // namespace deltatape::cuda::kda::v1
