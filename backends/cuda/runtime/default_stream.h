// A device's default stream, which the runtime and its host twin each define for backends/cuda/streams.cpp.
#pragma once

#include "backends/cuda/runtime/stream.h"

namespace deltatape::cuda {

/// The stream that all threads use where no StreamGuard says otherwise.
Stream default_stream(Device device);

}  // namespace deltatape::cuda
