// KDA forward in chunks on tensor cores: prep, then the scan. docs/cuda-kda-forward.md says how and why.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "backends/cuda/kda/v1/segment_plan.h"
#include "backends/kda.h"

namespace deltatape::cuda::kda::v1 {

using namespace deltatape::kda;  // the problem and its buffers

/// Half a sentence on why v1 cannot run a problem whose q, k, v, g and beta have this dtype on `device`; empty when it
/// can: bf16, K of 64 or 128, V a multiple of 16, chunk_size of 32 or 64.
std::string why_not(const KernelProblem& problem, DType dtype, Device device);

/// Tokens of a chunk: chunk_size, or 32 on devices whose blocks have too little shared memory for 64.
int chunk_length(const KernelProblem& problem, Device device);
/// Chunks of all sequences together.
int64_t chunk_count(const KernelProblem& problem, int64_t C);

/// What forward may keep for backward: A of every chunk and value head, bf16.
Shape saved_shape(const KernelProblem& problem, Device device);

/// How a forward call is cut into launches.
struct ForwardPlan {
  int C = 64;            // tokens of a chunk
  int warps = 4;         // of a block of the scan, 16 of V each
  int slices = 1;        // blocks that make V
  int stages = 2;        // of a scan's shared memory
  int64_t chunks = 0;    // of all sequences together
  int64_t heads = 1;     // value heads of a launch
  int64_t bytes = 0;     // of working memory
  bool centred = false;  // leaves of 16 rows around their middle
  SegmentPlan segments;
};
/// With `saved`, A has a tensor of its own. `segment_chunks`: as in plan_segments.
ForwardPlan plan_forward(const KernelProblem& problem, Device device, bool saved,
                         std::optional<int64_t> segment_chunks = {});

/// Runs a problem for which why_not is empty. outputs.saved is of saved_shape.
void forward(const KernelProblem& problem, const KernelInputs& inputs, const KernelOutputs& outputs);
/// The same with other kernels (kernels.h), for versions that differ in no more; those of segments stay v1's.
/// `segment_chunks`: as in plan_segments.
struct ForwardKernels;
void forward_with(const ForwardKernels& kernels, const KernelProblem& problem, const KernelInputs& inputs,
                  const KernelOutputs& outputs, std::optional<int64_t> segment_chunks = {});

}  // namespace deltatape::cuda::kda::v1
