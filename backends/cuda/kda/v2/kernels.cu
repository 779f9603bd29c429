#include <algorithm>

#include "backends/cuda/architectures.h"
#include "backends/cuda/kda/v1/sizes.h"
#include "backends/cuda/kda/v2/kernel_launch.h"
#include "backends/cuda/kda/v2/kernels.h"

namespace deltatape::cuda::kda::v2 {
namespace {

constexpr int kRowsOfGroup = 64;  // of V

}  // namespace

std::string why_no_wgmma(Device device) {
  const DeviceProperties& properties = device_properties(device);
  if (properties.major != 9) {
    return fmt::format("the device is of compute capability {}.{} and v2 takes 9.x", properties.major,
                       properties.minor);
  }
  const std::string architectures = compiled_architectures();
  if (!names_architecture(architectures, "90a") && !names_architecture(architectures, "host")) {
    return fmt::format("the kernels are for sm {} and v2's are for sm 90a", architectures);
  }
  return {};
}

int scan_groups(int64_t V, int64_t states, const DeviceProperties& device) {
  if (V % (2 * kRowsOfGroup) != 0) {
    return 1;
  }
  const auto waves = [&](int groups) {
    const int64_t blocks = states * (V / (groups * kRowsOfGroup));
    const int64_t at_a_time = std::max(1, device.multiprocessors);  // one block each, for its shared memory
    return (blocks + at_a_time - 1) / at_a_time;
  };
  return 2 * waves(2) <= waves(1) ? 2 : 1;
}

void launch_prep(const Stream& stream, const v1::PrepKind& kind, const v1::PrepArguments& p, int64_t chunks) {
  check(kind.C == 64, "kda::v2::launch_prep", "C is {}, expected 64", kind.C);
  kind.K == 128 ? launch_prep_k128(stream, kind, p, chunks) : v1::launch_prep(stream, kind, p, chunks);
}

void launch_scan(const Stream& stream, const v1::ScanKind& kind, const ScanArguments& p, int64_t sequences) {
  check(kind.C == 64 && !kind.for_backward, "kda::v2::launch_scan", "C is {}, expected 64, for the output", kind.C);
  const int groups = scan_groups(p.V, sequences * p.heads, device_properties(stream.device()));
  ScanArguments cut = p;
  cut.slices = p.V / (groups * kRowsOfGroup);
  v1::with_channels(kind.K, [&]<int K>() { launch_scan_of<K>(stream, groups, cut, sequences); });
}

void launch_both_scans(const Stream& stream, int C, int K, int /*warps*/, v1::BothScansArguments p, int64_t pairs) {
  check(C == 64, "kda::v2::launch_both_scans", "C is {}, expected 64", C);
  const int groups = scan_groups(p.forward.V, 2 * pairs, device_properties(stream.device()));
  p.forward.slices = p.reverse.slices = p.forward.V / (groups * kRowsOfGroup);
  p.forward_blocks = static_cast<int>(pairs * p.forward.slices);
  v1::with_channels(K, [&]<int kChannels>() { launch_both_scans_of<kChannels>(stream, groups, p); });
}

}  // namespace deltatape::cuda::kda::v2
