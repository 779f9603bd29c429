#include "backends/cuda/kda/v1/kernel_launch.h"
#include "backends/cuda/kda/v1/kernels.h"

namespace deltatape::cuda::kda::v1 {
namespace {

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

void launch_prep(const Stream& stream, const PrepKind& kind, const PrepArguments& p, int64_t chunks) {
  with_sizes(kind.C, kind.K, [&]<int C, int K>() { launch_prep_of<C, K>(stream, kind, p, chunks); });
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
