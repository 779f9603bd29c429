// The tensors of a case of KDA, from its settings.
#pragma once

#include "harness/case.h"

namespace deltatape::harness {

/// Inputs in the case's dtype (A_log, dt_bias and states in f32 where that has 16 bits), upstream gradients likewise.
Case make_kda_case(const Settings& settings);

}  // namespace deltatape::harness
