// The space of KDA's cases as the command line restricts it.
#pragma once

#include <string>

#include "core/error.h"
#include "harness/space.h"

namespace deltatape::tools {

/// --dtype (`f32,bf16` or `all`) and --space (empty: none) as one text for Space::restrict. Throws Error that names the
/// option unless `space` takes it.
std::string restrict_space(harness::Space& space, const std::string& dtypes, const std::string& axes);

/// What `call` returns; an Error that it throws gets the option in front.
template <class Call>
auto naming(const char* option, Call&& call) {
  try {
    return call();
  } catch (const Error& error) {
    fail(option, "{}", error.what());
  }
}

}  // namespace deltatape::tools
