// KDA as one tape node: forward and backward are hand-written kernels of the backend.
#pragma once

#include "ops/kda/options.h"

namespace deltatape::kda {

/// Kimi Delta Attention by the recurrence (ops/kda/options.h) in one kernel, token after token. Backward is the adjoint
/// in time, from states every 64 tokens that forward kept (save_intermediates) or that it computes again. Gradients of
/// gradients come from `recurrent`, its composed twin. Arguments, results and errors as `recurrent`.
Output fused_recurrent(const Inputs& inputs, const Options& options = {});

/// Kimi Delta Attention chunkwise in one kernel: products of matrices over tiles of 16 tokens (docs/chunk-forward.md,
/// docs/chunk-backward.md). `chunk_size` only sets the distance of the states in `h`. Gradients of gradients come from
/// `chunk`, its composed twin. Arguments, results and errors as `chunk`.
Output fused_chunk(const Inputs& inputs, const Options& options = {});

}  // namespace deltatape::kda
