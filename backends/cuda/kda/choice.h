// Which kernels a call of KDA runs on CUDA, and why.
#pragma once

#include <string>

#include "backends/kda.h"

namespace deltatape::cuda::kda {

using namespace deltatape::kda;  // the problem and its buffers

enum class Kernels : uint8_t {
  v0,  // backends/cuda/kda/v0: token after token, everything
  v1,  // backends/cuda/kda/v1: chunks, on tensor cores
};

struct Choice {
  Kernels kernels = Kernels::v0;
  std::string why_not_v1;  // half a sentence for v0
};

/// For a problem whose q, k, v, g and beta have this dtype. Forward and backward of a call get the same answer.
Choice choose(const KernelProblem& problem, DType dtype);

}  // namespace deltatape::cuda::kda
