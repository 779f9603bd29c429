// KDA backward in chunks on tensor cores: prep again (B1), the scan and the reverse scan in one grid (B2), all that is
// local to a chunk (B3), sums over chunks and heads (B4). docs/cuda-kda-backward.md derives it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "backends/cuda/kda/v1/segment_plan.h"
#include "backends/kda.h"

namespace deltatape::cuda::kda::v1 {

using namespace deltatape::kda;  // the problem and its buffers

/// Half a sentence on why v1's backward cannot run a problem whose q, k, v, g and beta have this dtype on `device`;
/// empty when it can: what forward asks for, V of 64 or 128, and shared memory for a chunk of 32 tokens.
std::string why_not_backward(const KernelProblem& problem, DType dtype, Device device);

/// How a backward call is cut into launches.
struct BackwardPlan {
  int C = 64;               // tokens of a chunk
  bool takes_saved = true;  // forward's A is of such chunks
  int warps = 4;            // of a block of the scans, 16 of V each
  int slices = 1;           // blocks that make V
  int stages = 2;           // of a scan's shared memory
  int64_t chunks = 0;       // of all sequences together
  int64_t heads = 1;        // value heads of a launch, whole groups
  int64_t bytes = 0;        // of working memory
  bool centred = false;     // prep's leaves of 16 rows around their middle
  SegmentPlan segments;
};
/// `saved`: forward's A is at hand. `segment_chunks`: as in plan_segments. Expects a problem for which why_not_backward
/// is empty.
BackwardPlan plan_backward(const KernelProblem& problem, Device device, bool saved,
                           std::optional<int64_t> segment_chunks = {});

/// Runs a problem for which why_not_backward is empty. Any gradient may be undefined, and so may upstream.saved.
void backward(const KernelProblem& problem, const KernelInputs& inputs, const KernelUpstream& upstream,
              const KernelGradients& gradients);
/// The same with other kernels (backward_kernels.h), for versions that differ in no more; those of segments stay v1's.
/// `segment_chunks`: as in plan_segments.
struct BackwardKernels;
void backward_with(const BackwardKernels& kernels, const KernelProblem& problem, const KernelInputs& inputs,
                   const KernelUpstream& upstream, const KernelGradients& gradients,
                   std::optional<int64_t> segment_chunks = {});

}  // namespace deltatape::cuda::kda::v1
