// Kimi Delta Attention for the harness: its space of cases, its reference, our own implementations as candidates.
#pragma once

#include "harness/operator.h"
#include "harness/space.h"
#include "ops/kda/plan.h"

namespace deltatape::harness {

/// Names of tensors in cases of KDA: inputs q k v g beta A_log dt_bias h0 (and cu_seqlens, segment_ids), outputs o ht,
/// so upstream gradients are those of o and ht, and gradients dq dk dv dg dbeta dA_log ddt_bias dh0.
///
/// All options of the operator and the hard regimes. Dtypes: f64, f32, bf16, f16; in 16 bits A_log, dt_bias and the
/// states stay f32. docs/harness.md lists the axes.
Space kda_space();

/// kda::recurrent on the tape, kda::chunk beside it, kda::stages for the intermediates g_cumsum Aqk Akk w u qg kg v_new
/// h dAqk dh dAkk (of a case after gate, norm and sigmoid; every value head).
Reference kda_reference();

/// One of our implementations, with its own gradients.
Candidate kda_candidate(kda::Implementation implementation);

/// What the operator takes: from the settings and tensors of a case. Undefined: what the case has not.
kda::Options kda_options(const Settings& settings);
kda::Inputs kda_inputs(const NamedTensors& inputs);

}  // namespace deltatape::harness
