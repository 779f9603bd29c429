#include "backends/cuda/cuda_backend.h"

namespace deltatape {

const Backend& cuda_backend() {
  static const cuda::CudaBackend backend;
  return backend;
}

}  // namespace deltatape
