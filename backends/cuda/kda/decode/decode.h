// Decoding with the state in registers, for heads of 64 and 128 (kernel.h). Everything else is v0's.
#pragma once

#include <string>

#include "backends/kda.h"

namespace deltatape::cuda::kda::decoding {

/// Why this kernel does not take a call, as half a sentence; empty when it does.
std::string refusal(const deltatape::kda::KernelProblem& problem, const deltatape::kda::KernelInputs& inputs,
                    const deltatape::kda::KernelDecode& decode);

/// The call on the current stream of its device. The pool may be f32 or bf16. Only for calls without a refusal.
void decode(const deltatape::kda::KernelProblem& problem, const deltatape::kda::KernelInputs& inputs,
            const deltatape::kda::KernelDecode& decode);

}  // namespace deltatape::cuda::kda::decoding
