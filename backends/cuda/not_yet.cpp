// Methods that are still to be written. Whoever writes one deletes its line here.
#include "backends/cuda/cuda_backend.h"
#include "core/error.h"

namespace deltatape::cuda {
namespace {

[[noreturn]] void not_yet(std::string_view method) { fail(method, "not on CUDA yet"); }

}  // namespace

// Elementwise, products, random numbers.

// Reductions, norms, indexing, convolution, training.
void CudaBackend::rms_norm(const Tensor& /*x*/, const Tensor& /*weight*/, double /*eps*/, bool /*sum*/,
                           const Tensor& /*out*/, const Tensor& /*rstd*/) const {
  not_yet("rms_norm");
}
void CudaBackend::rms_norm_backward(const Tensor& /*x*/, const Tensor& /*weight*/, const Tensor& /*rstd*/,
                                    const Tensor& /*dy*/, bool /*sum*/, const Tensor& /*dx*/,
                                    const Tensor& /*dweight*/) const {
  not_yet("rms_norm_backward");
}
void CudaBackend::gated_rms_norm(const Tensor& /*x*/, const Tensor& /*weight*/, const Tensor& /*gate*/, bool /*silu*/,
                                 double /*eps*/, const Tensor& /*out*/, const Tensor& /*rstd*/) const {
  not_yet("gated_rms_norm");
}
void CudaBackend::gated_rms_norm_backward(const Tensor& /*x*/, const Tensor& /*weight*/, const Tensor& /*gate*/,
                                          bool /*silu*/, const Tensor& /*rstd*/, const Tensor& /*dy*/,
                                          const Tensor& /*dx*/, const Tensor& /*dweight*/,
                                          const Tensor& /*dgate*/) const {
  not_yet("gated_rms_norm_backward");
}
void CudaBackend::swiglu(const Tensor& /*a*/, const Tensor& /*b*/, const Tensor& /*out*/) const { not_yet("swiglu"); }
void CudaBackend::swiglu_backward(const Tensor& /*a*/, const Tensor& /*b*/, const Tensor& /*dy*/, const Tensor& /*da*/,
                                  const Tensor& /*db*/) const {
  not_yet("swiglu_backward");
}
void CudaBackend::solve_triangular(const Tensor& /*a*/, const Tensor& /*b*/, bool /*lower*/, bool /*unit*/,
                                   const Tensor& /*out*/) const {
  not_yet("solve_triangular");
}
void CudaBackend::triangle(const Tensor& /*x*/, bool /*lower*/, int64_t /*diagonal*/, const Tensor& /*out*/) const {
  not_yet("triangle");
}
void CudaBackend::gather(const Tensor& /*x*/, int /*dim*/, const Tensor& /*index*/, const Tensor& /*out*/) const {
  not_yet("gather");
}
void CudaBackend::scatter_add(const Tensor& /*src*/, int /*dim*/, const Tensor& /*index*/,
                              const Tensor& /*out*/) const {
  not_yet("scatter_add");
}
void CudaBackend::index_select(const Tensor& /*x*/, int /*dim*/, const Tensor& /*index*/, const Tensor& /*out*/) const {
  not_yet("index_select");
}
void CudaBackend::index_add(const Tensor& /*src*/, int /*dim*/, const Tensor& /*index*/, const Tensor& /*out*/) const {
  not_yet("index_add");
}
void CudaBackend::topk(const Tensor& /*x*/, int64_t /*k*/, const Tensor& /*values*/, const Tensor& /*indices*/) const {
  not_yet("topk");
}
void CudaBackend::causal_conv1d(const Tensor& /*x*/, const Tensor& /*weight*/, const Tensor& /*bias*/,
                                const Tensor& /*starts*/, const Tensor& /*out*/) const {
  not_yet("causal_conv1d");
}
void CudaBackend::causal_conv1d_backward(const Tensor& /*x*/, const Tensor& /*weight*/, const Tensor& /*starts*/,
                                         const Tensor& /*dy*/, const Tensor& /*dx*/, const Tensor& /*dweight*/) const {
  not_yet("causal_conv1d_backward");
}
void CudaBackend::kda_gate(kda::Gate /*gate*/, double /*lower_bound*/, const Tensor& /*g*/, const Tensor& /*A_log*/,
                           const Tensor& /*dt_bias*/, const Tensor& /*out*/) const {
  not_yet("kda_gate");
}
void CudaBackend::kda_gate_backward(kda::Gate /*gate*/, double /*lower_bound*/, const Tensor& /*dy*/,
                                    const Tensor& /*g*/, const Tensor& /*A_log*/, const Tensor& /*dt_bias*/,
                                    const Tensor& /*dg*/, const Tensor& /*dA_log*/, const Tensor& /*ddt_bias*/) const {
  not_yet("kda_gate_backward");
}
void CudaBackend::sum_of_squares(const Tensor& /*x*/, const Tensor& /*out*/) const { not_yet("sum_of_squares"); }
void CudaBackend::adamw(const Tensor& /*gradient*/, const AdamWStep& /*step*/, const Tensor& /*parameter*/,
                        const Tensor& /*m*/, const Tensor& /*v*/) const {
  not_yet("adamw");
}

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
