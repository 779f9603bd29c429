#include "backends/cuda/kda/v1/kernels.h"
#include "backends/cuda/kda/v1/prep_launch.h"

namespace deltatape::cuda::kda::v1 {
namespace {

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

/// f with both sizes as constants.
template <class F>
void with_sizes(int C, int K, F&& f) {
  with_channels(K, [&]<int kChannels>() {
    if (C == 64) {
      f.template operator()<64, kChannels>();
    } else {
      f.template operator()<32, kChannels>();
    }
  });
}

}  // namespace

bool has_channels(int64_t K) { return K == 128 || (K == 64 && kWithK64); }

void launch_prep(const Stream& stream, const PrepKind& kind, const PrepArguments& p, int64_t chunks) {
  if (kind.C == 64) {
    launch_prep_of_length<64>(stream, kind, p, chunks);
  } else {
    launch_prep_of_length<32>(stream, kind, p, chunks);
  }
}

void launch_scan(const Stream& stream, const ScanKind& kind, const ScanArguments& p, int64_t sequences) {
  with_sizes(kind.C, kind.K, [&]<int C, int K>() { launch_scan_of<C, K>(stream, kind, p, sequences); });
}

int64_t record_bytes(int C, int K) {
  int64_t bytes = 0;
  with_sizes(C, K, [&]<int kRows, int kChannels>() { bytes = Record<kRows, kChannels>::kBytes; });
  return bytes;
}

int64_t solved_bytes(int C) { return int64_t{2} * C * C; }

int scan_shared_bytes(int C, int K, int warps, int stages) {
  int bytes = 0;
  with_sizes(C, K, [&]<int kRows, int kChannels>() {
    bytes = stages * ScanShape<kRows, kChannels, false>::stage_bytes(warps);
  });
  return bytes;
}

}  // namespace deltatape::cuda::kda::v1
