// The kernels of v2 that its launchers start, for sizes known at run time.
#pragma once

#include <cstdint>
#include <string>

#include "backends/cuda/kda/v1/kernels.h"
#include "backends/cuda/kda/v2/reverse_scan.h"
#include "backends/cuda/runtime/device.h"
#include "backends/cuda/runtime/stream.h"

namespace deltatape::cuda::kda::v2 {

/// Half a sentence on why kernels with wgmma cannot run on `device`; empty when they can: compute capability 9.x, and a
/// library compiled for 90a, which a library for 90 is not.
std::string why_no_wgmma(Device device);

/// Prep of chunks of 64 tokens with records as v2's scans read them: v1's kernel, whose records of 64 channels are the
/// same.
void launch_prep(const Stream& stream, const v1::PrepKind& kind, const v1::PrepArguments& p, int64_t chunks);

/// Warpgroups of a block of a scan: 1 or 2, each with 64 rows of V, a multiple of 64. `states` are worked on at the
/// same time. Two share what is read of a chunk, and a multiprocessor's tensor cores: taken where that halves the
/// waves.
int scan_groups(int64_t V, int64_t states, const DeviceProperties& device);

/// The scan of `sequences` sequences and p.heads value heads; how V is cut is up to it. `kind.C` is 64.
void launch_scan(const Stream& stream, const v1::ScanKind& kind, const ScanArguments& p, int64_t sequences);

/// B2: the scan that finds h and v_new and the reverse scan, for `pairs` sequences times heads; how V is cut is up to
/// it, and `warps` is not used. C is 64.
void launch_both_scans(const Stream& stream, int C, int K, int warps, v1::BothScansArguments p, int64_t pairs);

}  // namespace deltatape::cuda::kda::v2
