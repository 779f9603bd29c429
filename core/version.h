#pragma once

#include <string_view>

namespace deltatape {

/// The library's semantic version, as in "0.1.0".
std::string_view version();

}  // namespace deltatape
