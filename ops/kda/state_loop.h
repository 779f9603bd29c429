// The sequential part of the chunk form: the state from chunk to chunk.
#pragma once

#include "ops/kda/chunk_layout.h"

namespace deltatape::kda {

/// What the state loop needs of every chunk; all [NC,B,HV,..] in the order of the table.
struct StateSteps {
  Tensor u;      // [C,V], what a chunk would write to a zero state
  Tensor w;      // [C,K], what of the state it takes away: v_new = u - w S
  Tensor kg;     // [C,K], keys as they arrive at the end of the chunk
  Tensor decay;  // [K,1], exp(G_C)
};

/// What the state loop leaves behind.
struct StateHistory {
  Tensor before;        // [NC,B,HV,K,V], the state before every chunk
  Tensor v_new;         // [NC,B,HV,C,V], what every chunk writes
  Tensor final_states;  // in loop order; undefined unless asked for
};

/// Runs S <- exp(G_C) S + kg' (u - w S) over the chunks, all sequences at once, from `state` (initial states in loop
/// order). There is at least one chunk. Differentiable.
StateHistory carry_states(const ChunkTable& table, const StateSteps& steps, Tensor state, bool want_final);

}  // namespace deltatape::kda
