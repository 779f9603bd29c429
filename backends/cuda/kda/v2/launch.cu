#include "backends/cuda/kda/v1/backward.h"
#include "backends/cuda/kda/v1/backward_kernels.h"
#include "backends/cuda/kda/v1/forward.h"
#include "backends/cuda/kda/v2/kernels.h"
#include "backends/cuda/kda/v2/launch.h"

namespace deltatape::cuda::kda::v2 {
namespace {

constexpr int64_t kWhole = 0;  // sequences are not cut: the kernels of segments read v1's records

}  // namespace

std::string why_not(const KernelProblem& problem, DType dtype, Device device) {
  if (std::string reason = v1::why_not(problem, dtype, device); !reason.empty()) {
    return reason;
  }
  if (problem.V % 64 != 0) {
    return fmt::format("V is {} and v2 takes multiples of 64", problem.V);
  }
  if (problem.chunk_size != 64) {
    return fmt::format("chunk_size is {} and v2 takes 64", problem.chunk_size);
  }
  return why_no_wgmma(device);
}

void forward(const KernelProblem& problem, const KernelInputs& inputs, const KernelOutputs& outputs) {
  v1::forward_with({.prep = launch_prep, .scan = launch_scan}, problem, inputs, outputs, kWhole);
}

std::string why_not_backward(const KernelProblem& problem, DType dtype, Device device) {
  if (std::string reason = why_not(problem, dtype, device); !reason.empty()) {
    return reason;
  }
  if (std::string reason = v1::why_not_backward(problem, dtype, device); !reason.empty()) {
    return reason;
  }
  if (const int C = v1::plan_backward(problem, device, false).C; C != 64) {
    return fmt::format("the backward takes chunks of {} tokens on this device and v2 takes 64", C);
  }
  return {};
}

void backward(const KernelProblem& problem, const KernelInputs& inputs, const KernelUpstream& upstream,
              const KernelGradients& gradients) {
  v1::backward_with({.prep = launch_prep, .both_scans = launch_both_scans}, problem, inputs, upstream, gradients,
                    kWhole);
}

}  // namespace deltatape::cuda::kda::v2
