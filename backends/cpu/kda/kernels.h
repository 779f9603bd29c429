// The fused KDA kernels of the CPU. T is the type they compute in, float or double; tensors in other dtypes are
// converted row by row. Every kernel computes the same function of its arguments as the composed ops of ops/kda/.
#pragma once

#include "backends/kda.h"

namespace deltatape::cpu::kda {

using namespace deltatape::kda;  // the problem and its buffers

/// Chunkwise, in tiles of 16 tokens: docs/chunk-forward.md.
template <class T>
void chunk_forward(const KernelProblem& problem, const KernelInputs& inputs, const KernelOutputs& outputs);
/// Its adjoint: docs/chunk-backward.md.
template <class T>
void chunk_backward(const KernelProblem& problem, const KernelInputs& inputs, const KernelUpstream& upstream,
                    const KernelGradients& gradients);

/// Token after token.
template <class T>
void recurrent_forward(const KernelProblem& problem, const KernelInputs& inputs, const KernelOutputs& outputs);
/// The adjoint in time, with the states of 64 tokens at a time computed again from a checkpoint.
template <class T>
void recurrent_backward(const KernelProblem& problem, const KernelInputs& inputs, const KernelUpstream& upstream,
                        const KernelGradients& gradients);

/// A few tokens on a pool of states, in place.
template <class T>
void decode_steps(const KernelProblem& problem, const KernelInputs& inputs, const KernelDecode& decode);

}  // namespace deltatape::cpu::kda
