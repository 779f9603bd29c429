// Methods that are still to be written. Whoever writes one deletes its line here.
#include "backends/cuda/cuda_backend.h"
#include "core/error.h"

namespace deltatape::cuda {
namespace {

[[noreturn]] void not_yet(std::string_view method) { fail(method, "not on CUDA yet"); }

}  // namespace

// Elementwise, products, random numbers.

// Reductions, norms, indexing, convolution, training.

// Kimi Delta Attention.

}  // namespace deltatape::cuda
