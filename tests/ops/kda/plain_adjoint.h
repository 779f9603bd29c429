// KDA forward and backward by plain loops over numbers, with the mistakes that public KDA code has made built in: what
// a test asserts against the right values must differ from each wrong one.
#pragma once

#include "tests/ops/kda/kda_cases.h"

namespace deltatape::test {

enum class Mistake : uint8_t {
  none,
  diagonal_in_dM,                // the mask of dAkk is i >= j instead of i > j
  unscaled_inside_chunk,         // scale only on what comes through the state before the chunk
  no_norm_jacobian,              // dq and dk of the normalised q and k
  heads_and_time_swapped,        // g is read as [B,HV,T,K]
  state_lost_at_chunk,           // every chunk starts from zeros
  gradient_lost_at_chunk,        // dS does not go back over a chunk's border
  gradient_leaks_over_sequence,  // dS of a sequence goes on into the one before it
  dht_of_the_wrong_sequence,     // all sequences take the first one's dht
  read_and_write_merged,         // dg = revcumsum(q dq - k dk), right for linear attention only
};

/// As run_case, for cases without a gate and a sigmoid, states [N,HV,K,V], a loss on o and on ht. Chunks have 64
/// tokens.
NamedResults plain_adjoint(const KDACase& c, Mistake mistake = Mistake::none);

}  // namespace deltatape::test
