// Copying named tensors into named tensors, for modules and optimizers.
#pragma once

#include <string>

#include "nn/module.h"

namespace deltatape::nn {

/// Copies every entry of `source` into the entry of `target` with that name, converting its dtype. Throws Error that
/// starts with `function` and lists names that are missing in `source` or unknown to `target` (both only when `strict`)
/// and entries of another shape; nothing has been copied then.
void copy_state(const std::string& function, const StateDict& target, const StateDict& source, bool strict);

}  // namespace deltatape::nn
