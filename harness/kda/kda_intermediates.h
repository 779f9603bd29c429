// The intermediates of the chunk form, for pointing at the stage where a kernel first goes wrong.
#pragma once

#include "harness/case.h"

namespace deltatape::harness {

/// Of a case in f64: g_cumsum Aqk Akk w u qg kg h v_new, and where it has an upstream gradient dAqk dh dAkk, as
/// ops/kda/stages.h defines and orders them, with the case's chunk_size. States are [.., K, V] whatever v_first says.
/// Empty where stages do not apply: segment_ids, no elements.
NamedTensors kda_intermediates(const Case& c);

}  // namespace deltatape::harness
