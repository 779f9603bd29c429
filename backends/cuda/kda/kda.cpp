// The KDA entries of the CUDA backend: which kernels and which arithmetic type a call runs. v1 (chunks on tensor cores)
// where it can; v0 (token after token, everything) where it cannot. A call's backward may be v0 where its forward is
// v1.
#include <fmt/format.h>

#include <string>

#include "backends/cuda/cuda_backend.h"
#include "backends/cuda/kda/decode/decode.h"
#include "backends/cuda/kda/v0/kernels.h"
#include "backends/cuda/kda/v1/backward.h"
#include "backends/cuda/kda/v1/forward.h"

namespace deltatape::cuda {
namespace kda {

using namespace deltatape::kda;  // the problem and its buffers

namespace {

/// Half sentences on why v1 does not run; empty where it does.
struct WhyNotV1 {
  std::string forward;
  std::string backward;
};

/// For a problem whose q, k, v, g and beta have this dtype.
WhyNotV1 why_not_v1(const KernelProblem& problem, DType dtype, Device device) {
  if (problem.form == Form::recurrent) {
    const std::string reason = "this form has no chunks";
    return {reason, reason};
  }
  return {v1::why_not(problem, dtype, device), v1::why_not_backward(problem, dtype, device)};
}

v0::Memory memory_of_v0(const KernelProblem& problem) {
  return (problem.compute_dtype == DType::f64 ? v0::memory_of<double> : v0::memory_of<float>)(problem);
}

double mebibytes(int64_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

/// `working memory 12.5 MiB`, and by how many heads at a time when these are not all.
std::string memory_text(int64_t bytes, int64_t heads, int64_t all) {
  const std::string memory = fmt::format("working memory {:.1f} MiB", mebibytes(bytes));
  return heads < all ? fmt::format("{} with {} of {} heads at a time", memory, heads, all) : memory;
}

/// `, 1 of 1001 sequences cut into 9 pieces` where sequences are cut: pieces of those that are, all together. (The word
/// segment would make one think of segment_ids.)
std::string pieces_text(const KernelProblem& problem, const v1::SegmentPlan& plan) {
  if (!plan.cut()) {
    return {};
  }
  const auto all = static_cast<int64_t>(problem.sequences.size());
  return fmt::format(", {} of {} sequences cut into {} pieces", plan.chains, all, plan.segments - (all - plan.chains));
}

std::string chunks_text(int C, bool centred) {
  return fmt::format(
      "v1, chunks of {} tokens on tensor cores, {}", C,
      centred ? "decays of 16 tokens around their middle (the gate has a lower bound)" : "decays exact for any gate");
}

/// The plan of a call, half by half.
KernelPlan plan(const KernelProblem& problem, DType dtype, Device device) {
  const WhyNotV1 why_not = why_not_v1(problem, dtype, device);
  KernelPlan plan;
  std::string backward;
  if (!why_not.forward.empty() || !why_not.backward.empty()) {
    KernelProblem from_nothing = problem;  // v1's forward keeps nothing that v0's backward reads
    from_nothing.save_intermediates = problem.save_intermediates && !why_not.forward.empty();
    const v0::Memory memory = memory_of_v0(from_nothing);
    plan.forward_bytes = memory.forward_bytes;
    plan.backward_bytes = memory.backward_bytes;
    plan.text = fmt::format("forward v0, token after token, since {} ({})", why_not.forward,
                            memory_text(memory.forward_bytes, memory.forward_heads, problem.HV));
    backward = fmt::format("backward v0, since {} ({})", why_not.backward,
                           memory_text(memory.backward_bytes, memory.backward_heads, problem.HV));
  }
  if (why_not.forward.empty()) {
    const bool keeps =
        problem.save_intermediates && why_not.backward.empty() && v1::plan_backward(problem, device, true).takes_saved;
    const v1::ForwardPlan forward = v1::plan_forward(problem, device, keeps);
    plan.forward_bytes = forward.bytes;
    plan.text =
        fmt::format("forward {}{} ({})", chunks_text(forward.C, forward.centred),
                    pieces_text(problem, forward.segments), memory_text(forward.bytes, forward.heads, problem.HV));
    plan.saved_shape = keeps ? v1::saved_shape(problem, device) : Shape{0};
    plan.saved_dtype = DType::bf16;
  } else {
    plan.saved_shape = checkpoint_shape(problem);
    plan.saved_dtype = problem.compute_dtype;
  }
  if (why_not.backward.empty()) {
    const v1::BackwardPlan chunks = v1::plan_backward(problem, device, problem.save_intermediates);
    plan.backward_bytes = chunks.bytes;
    backward = fmt::format("backward v1, chunks of {} tokens{} ({})", chunks.C, pieces_text(problem, chunks.segments),
                           memory_text(chunks.bytes, chunks.heads, problem.HV));
  }
  plan.text += "; " + backward;
  return plan;
}

/// `x` unless it has no elements.
Tensor unless_empty(const Tensor& x) { return x.defined() && x.numel() == 0 ? Tensor() : x; }

}  // namespace
}  // namespace kda

kda::KernelPlan CudaBackend::kda_plan(const kda::KernelProblem& problem, DType dtype, Device device) const {
  return kda::plan(problem, dtype, device);
}

void CudaBackend::kda_forward(const kda::KernelProblem& problem, const kda::KernelInputs& inputs,
                              const kda::KernelOutputs& outputs) const {
  if (kda::why_not_v1(problem, inputs.q.dtype(), inputs.q.device()).forward.empty()) {
    kda::KernelOutputs wanted = outputs;
    wanted.saved = kda::unless_empty(outputs.saved);
    kda::v1::forward(problem, inputs, wanted);
    return;
  }
  const bool wide = problem.compute_dtype == DType::f64;
  (wide ? kda::v0::forward<double> : kda::v0::forward<float>)(problem, inputs, outputs);
}

void CudaBackend::kda_backward(const kda::KernelProblem& problem, const kda::KernelInputs& inputs,
                               const kda::KernelUpstream& upstream, const kda::KernelGradients& gradients) const {
  const kda::WhyNotV1 why_not = kda::why_not_v1(problem, inputs.q.dtype(), inputs.q.device());
  kda::KernelUpstream given = upstream;
  if (why_not.forward.empty()) {
    given.saved = kda::unless_empty(upstream.saved);
  }
  if (why_not.backward.empty()) {
    kda::v1::backward(problem, inputs, given, gradients);
    return;
  }
  const bool wide = problem.compute_dtype == DType::f64;
  (wide ? kda::v0::backward<double> : kda::v0::backward<float>)(problem, inputs, given, gradients);
}

void CudaBackend::kda_decode(const kda::KernelProblem& problem, const kda::KernelInputs& inputs,
                             const kda::KernelDecode& decode) const {
  if (kda::decoding::refusal(problem, inputs, decode).empty()) {
    kda::decoding::decode(problem, inputs, decode);
    return;
  }
  const bool wide = problem.compute_dtype == DType::f64;
  (wide ? kda::v0::decode<double> : kda::v0::decode<float>)(problem, inputs, decode);
}

}  // namespace deltatape::cuda
