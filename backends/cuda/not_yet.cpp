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
void CudaBackend::kda_forward(const kda::KernelProblem& /*problem*/, const kda::KernelInputs& /*inputs*/,
                              const kda::KernelOutputs& /*outputs*/) const {
  not_yet("kda_forward");
}
void CudaBackend::kda_backward(const kda::KernelProblem& /*problem*/, const kda::KernelInputs& /*inputs*/,
                               const kda::KernelUpstream& /*upstream*/,
                               const kda::KernelGradients& /*gradients*/) const {
  not_yet("kda_backward");
}
void CudaBackend::kda_decode(const kda::KernelProblem& /*problem*/, const kda::KernelInputs& /*inputs*/,
                             const kda::KernelDecode& /*decode*/) const {
  not_yet("kda_decode");
}

}  // namespace deltatape::cuda
