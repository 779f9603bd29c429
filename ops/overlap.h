// Whether a strided tensor uses memory twice. Not part of the public interface.
#pragma once

#include "core/tensor.h"

namespace deltatape {

/// Whether every index has memory of its own. Exact for stretched views; windows that overlap count as overlapping.
bool elements_are_distinct(const Tensor& x);

}  // namespace deltatape
