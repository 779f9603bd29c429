// KDA step by step, as composed ops: the definition everything else is held against.
#pragma once

#include "ops/kda/options.h"

namespace deltatape::kda {

/// Kimi Delta Attention by the recurrence of ops/kda/options.h, one step after another; gradients come from the tape.
/// Slow (some ten small ops per step), exact for any gate. `chunk_size` only sets the distance of the states
/// in `h`. Throws Error that names the argument, what was expected and what came.
Output recurrent(const Inputs& inputs, const Options& options = {});

}  // namespace deltatape::kda
