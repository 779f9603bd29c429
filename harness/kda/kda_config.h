// The config of a stored case of KDA.
#pragma once

#include <string>

#include "harness/case.h"

namespace deltatape::harness {

/// JSON with the sizes and options of a case as `deltatape kda CASE` reads them, and the keys `case` (`text`, as
/// Space::text gives it), `dtype` and `seed`.
std::string kda_config(const std::string& name, const std::string& text, const Case& c);

}  // namespace deltatape::harness
