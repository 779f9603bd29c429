// The launches of prep and of the scan for one size. Kernels of a size are compiled in a file of their own, so that
// they are compiled side by side: prep_c64_k128.cu, scan_k64.cu and their kin.
#pragma once

#include "backends/cuda/kda/v1/kernels.h"

namespace deltatape::cuda::kda::v1 {

template <class Shape>
void launch_prep_shape(const Stream& stream, const PrepArguments& p, int64_t chunks) {
  tile::launch_warps<Prep<Shape>>(stream, Grid{chunks * p.heads, 1, 1}, p);
}

template <int C, int K>
void launch_prep_of(const Stream& stream, const PrepKind& kind, const PrepArguments& p, int64_t chunks) {
  if (kind.centred) {
    kind.solve ? launch_prep_shape<PrepShape<C, K, true, true>>(stream, p, chunks)
               : launch_prep_shape<PrepShape<C, K, true, false>>(stream, p, chunks);
  } else {
    kind.solve ? launch_prep_shape<PrepShape<C, K, false, true>>(stream, p, chunks)
               : launch_prep_shape<PrepShape<C, K, false, false>>(stream, p, chunks);
  }
}

template <int C, int K>
void launch_scan_of(const Stream& stream, const ScanKind& kind, const ScanArguments& p, int64_t sequences) {
  const tile::WarpLaunch size{.grid = {sequences * p.heads * p.slices, 1, 1},
                              .warps = kind.warps,
                              .shared_bytes = scan_shared_bytes(C, K, kind.warps, p.stages)};
  if (kind.for_backward) {
    tile::launch_warps<Scan<ScanShape<C, K, true>>>(stream, size, p);
  } else {
    tile::launch_warps<Scan<ScanShape<C, K, false>>>(stream, size, p);
  }
}

extern template void launch_prep_of<64, 128>(const Stream&, const PrepKind&, const PrepArguments&, int64_t);
extern template void launch_prep_of<64, 64>(const Stream&, const PrepKind&, const PrepArguments&, int64_t);
extern template void launch_prep_of<32, 128>(const Stream&, const PrepKind&, const PrepArguments&, int64_t);
extern template void launch_prep_of<32, 64>(const Stream&, const PrepKind&, const PrepArguments&, int64_t);
extern template void launch_scan_of<64, 128>(const Stream&, const ScanKind&, const ScanArguments&, int64_t);
extern template void launch_scan_of<64, 64>(const Stream&, const ScanKind&, const ScanArguments&, int64_t);
extern template void launch_scan_of<32, 128>(const Stream&, const ScanKind&, const ScanArguments&, int64_t);
extern template void launch_scan_of<32, 64>(const Stream&, const ScanKind&, const ScanArguments&, int64_t);

}  // namespace deltatape::cuda::kda::v1
