// Which GPUs the kernels run on.
#pragma once

#include <string_view>

namespace deltatape::cuda {

/// Whether code for one of `architectures` (`80 90a 100f`: those that nvcc was told of) runs on a GPU of compute
/// capability `major`.`minor`: plain ones on the later ones of the same major, `f` likewise, `a` on that one alone.
bool runs_on(std::string_view architectures, int major, int minor);

/// Whether `one`, such as `90a`, is among `architectures`.
bool names_architecture(std::string_view architectures, std::string_view one);

}  // namespace deltatape::cuda
