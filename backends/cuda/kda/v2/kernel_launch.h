// The launches of v2's kernels for one K. Compiled in scan_k*.cu, backward_scans_k*.cu and prep_k128.cu.
#pragma once

#include "backends/cuda/kda/v2/kernels.h"

namespace deltatape::cuda::kda::v2 {

template <int K, bool centred, bool solve>
void launch_prep_of(const Stream& stream, const v1::PrepArguments& p, int64_t chunks) {
  using Shape = v1::PrepShape<64, K, centred, solve, tile::Panels<64>>;
  tile::launch_warps<v1::Prep<Shape>>(stream, Grid{chunks * p.heads}, p);
}
void launch_prep_k128(const Stream& stream, const v1::PrepKind& kind, const v1::PrepArguments& p, int64_t chunks);

template <int K>
void launch_scan_of(const Stream& stream, int groups, const ScanArguments& p, int64_t sequences) {
  const Grid grid{sequences * p.heads * p.slices};
  groups == 2 ? tile::launch_warps<Scan<K, 2>>(stream, grid, p) : tile::launch_warps<Scan<K, 1>>(stream, grid, p);
}
extern template void launch_scan_of<128>(const Stream&, int, const ScanArguments&, int64_t);
extern template void launch_scan_of<64>(const Stream&, int, const ScanArguments&, int64_t);

template <int K>
void launch_both_scans_of(const Stream& stream, int groups, const v1::BothScansArguments& p) {
  const Grid grid{2 * p.forward_blocks};
  groups == 2 ? tile::launch_warps<BothScans<K, 2>>(stream, grid, p)
              : tile::launch_warps<BothScans<K, 1>>(stream, grid, p);
}
extern template void launch_both_scans_of<128>(const Stream&, int, const v1::BothScansArguments&);
extern template void launch_both_scans_of<64>(const Stream&, int, const v1::BothScansArguments&);

}  // namespace deltatape::cuda::kda::v2
