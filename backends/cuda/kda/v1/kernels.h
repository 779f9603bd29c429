// The kernels of v1 that forward and backward start, for sizes known at run time.
#pragma once

#include <cstdint>

#include "backends/cuda/kda/v1/prep.h"
#include "backends/cuda/kda/v1/scan.h"
#include "backends/cuda/kda/v1/sizes.h"
#include "backends/cuda/runtime/stream.h"

namespace deltatape::cuda::kda::v1 {

/// Which prep: see PrepShape.
struct PrepKind {
  int C = 64;
  int K = 128;
  bool centred = false;
  bool solve = true;
};
/// Prep of `chunks` chunks and p.heads value heads. C is 32 or 64, and has_channels(K).
void launch_prep(const Stream& stream, const PrepKind& kind, const PrepArguments& p, int64_t chunks);

/// Which scan: see ScanShape. `warps` take 16 of V each; p.slices blocks of them make V.
struct ScanKind {
  int C = 64;
  int K = 128;
  bool for_backward = false;
  int warps = 4;
};
/// The scan of `sequences` sequences and p.heads value heads.
void launch_scan(const Stream& stream, const ScanKind& kind, const ScanArguments& p, int64_t sequences);

/// The kernels that forward starts: v1's, or others that do the same with records of their own.
struct ForwardKernels {
  void (*prep)(const Stream&, const PrepKind&, const PrepArguments&, int64_t chunks) = launch_prep;
  void (*scan)(const Stream&, const ScanKind&, const ScanArguments&, int64_t sequences) = launch_scan;
};

/// Bytes of a record, of A of one chunk and head, and of shared memory that a scan takes.
int64_t record_bytes(int C, int K);
int64_t solved_bytes(int C);
int scan_shared_bytes(int C, int K, int warps, int stages);

}  // namespace deltatape::cuda::kda::v1
