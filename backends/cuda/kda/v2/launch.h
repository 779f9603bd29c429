// KDA in chunks with scans on Hopper's wgmma: v1 with other scans (docs/cuda-kda-v2.md). Calls do not come here by
// themselves until a GPU has measured it; tests and benchmarks/gpu ask for it.
#pragma once

#include <string>

#include "backends/kda.h"

namespace deltatape::cuda::kda::v2 {

using namespace deltatape::kda;  // the problem and its buffers

/// Half a sentence on why v2 cannot run a problem whose q, k, v, g and beta have this dtype on `device`; empty when it
/// can: what v1 asks for, V a multiple of 64, chunk_size of 64, compute capability 9.x, and a library compiled for 90a.
std::string why_not(const KernelProblem& problem, DType dtype, Device device);

/// Runs a problem for which why_not is empty. outputs.saved is of v1::saved_shape, and the same as v1's.
void forward(const KernelProblem& problem, const KernelInputs& inputs, const KernelOutputs& outputs);

/// The same two for the backward, whose B1, B3 and B4 are v1's. It asks for what v1's backward does, and for chunks of
/// 64 tokens in it. A of either version's forward will do.
std::string why_not_backward(const KernelProblem& problem, DType dtype, Device device);
void backward(const KernelProblem& problem, const KernelInputs& inputs, const KernelUpstream& upstream,
              const KernelGradients& gradients);

}  // namespace deltatape::cuda::kda::v2
