// KDA in chunks, as composed ops: products of matrices inside a chunk, a loop over chunks for the state.
#pragma once

#include "ops/kda/options.h"

namespace deltatape::kda {

/// Kimi Delta Attention in its chunkwise form (docs/kda.md); gradients come from the tape. Equal to `recurrent` up to
/// rounding for every gate: decays are multiplied, never divided, and their sums never subtracted. Throws Error as
/// `recurrent` does.
Output chunk(const Inputs& inputs, const Options& options = {});

}  // namespace deltatape::kda
