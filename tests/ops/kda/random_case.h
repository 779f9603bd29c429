// KDA cases drawn over the whole option space.
#pragma once

#include <string>

#include "tests/ops/kda/kda_cases.h"

namespace deltatape::test {

struct RandomCase {
  KDACase c;         // in f64
  std::string text;  // everything that was drawn, for a failure's message
};

/// The same case for the same seed: shape, lengths or segments, options, decays, keys, write strengths, which tensors
/// are there, their layout and which output the loss looks at.
RandomCase random_case(uint64_t seed);

}  // namespace deltatape::test
