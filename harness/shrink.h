// From a case that fails to the smallest one that still does.
#pragma once

#include <functional>

#include "harness/space.h"

namespace deltatape::harness {

struct Shrunk {
  Settings settings;
  int64_t tried = 0;
};

/// Walks from `settings`, which fails, to simpler settings for as long as `fails` holds and `goes_on` says so: the
/// first simpler one that fails is taken, the boldest steps first, until none fails.
Shrunk shrink(const Space& space, const Settings& settings, const std::function<bool(const Settings&)>& fails,
              const std::function<bool()>& goes_on);

}  // namespace deltatape::harness
