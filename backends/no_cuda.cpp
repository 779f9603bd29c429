// Stands in for the CUDA backend in a build without it.
#include "core/device.h"

namespace deltatape {

std::string cuda_unavailable_reason() { return "this build has no CUDA backend"; }

}  // namespace deltatape
