// KDA on CUDA in plain kernels, token after token: any dtype, any option, any K that fits. What the faster kernels are
// held against on the GPU, and what runs where they do not. T is the type they compute in, float or double.
#pragma once

#include <string>

#include "backends/kda.h"

namespace deltatape::cuda::kda::v0 {

using namespace deltatape::kda;  // the problem and its buffers

/// Bytes of working memory of a call, and how many value heads a launch works on for it.
struct Memory {
  int64_t forward_bytes = 0;
  int64_t backward_bytes = 0;  // all gradients wanted
  int64_t forward_heads = 0;
  int64_t backward_heads = 0;
};
/// What a call of these sizes takes. Throws Error where K is too large.
template <class T>
Memory memory_of(const KernelProblem& problem);

template <class T>
void forward(const KernelProblem& problem, const KernelInputs& inputs, const KernelOutputs& outputs);
template <class T>
void backward(const KernelProblem& problem, const KernelInputs& inputs, const KernelUpstream& upstream,
              const KernelGradients& gradients);
template <class T>
void decode(const KernelProblem& problem, const KernelInputs& inputs, const KernelDecode& decode);

}  // namespace deltatape::cuda::kda::v0
