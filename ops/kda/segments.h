// segment_ids by way of cu_seqlens: the rows of a batch laid end to end, every segment a sequence of its own.
#pragma once

#include "ops/kda/inputs.h"

namespace deltatape::kda {

/// The result of a call with segment_ids from an implementation that knows cu_seqlens: [B,T,..] becomes [1,B*T,..],
/// the first segment of a row takes the row's initial state, all others start from zeros, and the final states of the
/// last segments are the result's. Differentiable as far as `implementation` is. The call has at least one token.
Output run_segmented(Output (*implementation)(const Inputs&, const Options&), const Problem& problem,
                     const Inputs& inputs, const Options& options);

}  // namespace deltatape::kda
