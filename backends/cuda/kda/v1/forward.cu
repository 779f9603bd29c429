#include <algorithm>
#include <limits>

#include "backends/cuda/kda/sequences.h"
#include "backends/cuda/kda/v1/forward.h"
#include "backends/cuda/kda/v1/kernels.h"
#include "backends/cuda/kda/v1/operands.h"
#include "backends/cuda/kda/v1/scan_plan.h"
#include "backends/cuda/kda/v1/segments.h"
#include "backends/cuda/runtime/device.h"
#include "core/tensor.h"

namespace deltatape::cuda::kda::v1 {
namespace {

constexpr int kWarpsOfChunk = 4;  // of a block of the scan that a chunk's length leaves room for
constexpr double kWeakestForCentred = -5.0;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace

int chunk_length(const KernelProblem& problem, Device device) {
  const auto fits = [&](int C) {
    return static_cast<size_t>(scan_shared_bytes(C, static_cast<int>(problem.K), kWarpsOfChunk, 2)) <=
           device_properties(device).shared_per_block;
  };
  return problem.chunk_size == 64 && fits(64) ? 64 : 32;
}

int64_t chunk_count(const KernelProblem& problem, int64_t C) {
  int64_t chunks = 0;
  for (const Sequence& sequence : problem.sequences) {
    chunks += ceil_div(sequence.length(), C);
  }
  return chunks;
}

std::string why_not(const KernelProblem& problem, DType dtype, Device device) {
  if (dtype != DType::bf16) {
    return fmt::format("the tensors are {} and v1 takes bf16", dtype);
  }
  if (problem.compute_dtype != DType::f32) {
    return fmt::format("v1 computes in f32, not in {}", problem.compute_dtype);
  }
  if (!has_channels(problem.K)) {
    return fmt::format("K is {} and v1 takes 64 and 128", problem.K);
  }
  if (problem.V % kRowsOfWarp != 0) {
    return fmt::format("V is {} and v1 takes multiples of {}", problem.V, kRowsOfWarp);
  }
  if (problem.chunk_size != 32 && problem.chunk_size != 64) {
    return fmt::format("chunk_size is {} and v1 takes 32 and 64", problem.chunk_size);
  }
  constexpr int64_t kMostBlocks = std::numeric_limits<int32_t>::max();
  if (chunk_count(problem, 32) * problem.HV > kMostBlocks) {
    return fmt::format("there are more than {} chunks", kMostBlocks);
  }
  const DeviceProperties& properties = device_properties(device);
  if (properties.major < 8) {
    return fmt::format("the device is of compute capability {}.{} and v1 takes 8.0", properties.major,
                       properties.minor);
  }
  return {};
}

Shape saved_shape(const KernelProblem& problem, Device device) {
  const int64_t C = chunk_length(problem, device);
  return {chunk_count(problem, C), problem.HV, C, C};
}

ForwardPlan plan_forward(const KernelProblem& problem, Device device, bool saved,
                         std::optional<int64_t> segment_chunks) {
  const DeviceProperties& properties = device_properties(device);
  const auto K = static_cast<int>(problem.K);
  ForwardPlan plan;
  plan.C = chunk_length(problem, device);
  plan.chunks = chunk_count(problem, plan.C);
  plan.centred = problem.gate == Gate::lower_bound && problem.lower_bound >= kWeakestForCentred;
  const int64_t of_head = plan.chunks * (record_bytes(plan.C, K) + (saved ? 0 : solved_bytes(plan.C)));
  const int64_t room = problem.workspace_limit - of_head;  // one head at a time at least
  plan.segments = plan_segments(problem, plan.C, false, properties, room, segment_chunks);
  const int64_t of_segments = segment_bytes(problem, plan.segments, false);
  const int64_t fit = of_head > 0 ? (problem.workspace_limit - of_segments) / of_head : problem.HV;
  const int64_t launches = ceil_div(problem.HV, std::clamp<int64_t>(fit, 1, std::max<int64_t>(1, problem.HV)));
  plan.heads = ceil_div(problem.HV, std::max<int64_t>(1, launches));
  plan.bytes = of_head * plan.heads + of_segments;
  const ScanPlan scan = plan_scan(problem.V, plan.C, K, plan.segments.segments * plan.heads, properties);
  plan.warps = scan.warps;
  plan.slices = scan.slices;
  plan.stages = scan.stages;
  return plan;
}

void forward(const KernelProblem& problem, const KernelInputs& inputs, const KernelOutputs& outputs) {
  forward_with({}, problem, inputs, outputs);
}

void forward_with(const ForwardKernels& kernels, const KernelProblem& asked, const KernelInputs& inputs,
                  const KernelOutputs& outputs, std::optional<int64_t> segment_chunks) {
  const KernelProblem problem = with_states(asked, inputs.initial_state.defined(), outputs.final_state.defined());
  const Device device = inputs.q.device();
  const Stream stream = current_stream(device);
  const auto K = static_cast<int>(problem.K);
  const ForwardPlan plan = plan_forward(problem, device, outputs.saved.defined(), segment_chunks);
  const SequenceTables tables = sequence_tables(problem, plan.C, device);
  const PrepOperands operands(inputs);
  const Tensor v = as_operand(inputs.v, DType::bf16);
  const Tensor initial_state = as_operand(inputs.initial_state, DType::f32);
  Tensor final_state = outputs.final_state;
  if (final_state.defined() && final_state.dtype() != DType::f32) {
    final_state = empty(final_state.shape(), {DType::f32, device});
  }
  const Tensor records = empty({plan.chunks * plan.heads * record_bytes(plan.C, K) / 4}, {DType::i32, device});
  const Tensor A = outputs.saved.defined() ? outputs.saved
                                           : empty({plan.chunks * plan.heads * plan.C * plan.C}, {DType::bf16, device});

  PrepArguments prep = operands.arguments(problem);
  prep.chunks = tables.chunk_entries();
  prep.records = static_cast<unsigned char*>(records.mutable_raw());
  prep.A = static_cast<BFloat16*>(A.mutable_raw());
  ScanArguments scan;
  scan.records = prep.records;
  scan.A = prep.A;
  scan.v = data_of<BFloat16>(v);
  scan.sequences = tables.sequence_entries();
  scan.initial_state = data_of<float>(initial_state);
  scan.final_state = mutable_data_of<float>(final_state);
  scan.h = mutable_data_of<float>(outputs.h);
  scan.chunks_per_h = static_cast<int>(problem.chunk_size) / plan.C;
  scan.o = static_cast<BFloat16*>(outputs.o.mutable_raw());
  scan.HV = static_cast<int>(problem.HV);
  scan.V = static_cast<int>(problem.V);
  scan.slices = plan.slices;
  scan.stages = plan.stages;
  scan.v_first = problem.state_v_first;
  std::optional<Segments> segments;
  if (plan.segments.cut()) {
    segments.emplace(problem, plan.segments, plan.C, false, device);
  }
  for (int64_t first = 0; first < problem.HV; first += plan.heads) {
    const auto heads = static_cast<int>(std::min(plan.heads, problem.HV - first));
    prep.first_head = scan.first_head = static_cast<int>(first);
    prep.heads = scan.heads = heads;
    prep.A_heads = scan.A_heads = outputs.saved.defined() ? prep.HV : heads;
    prep.A_first = scan.A_first = outputs.saved.defined() ? prep.first_head : 0;
    kernels.prep(stream, {.C = plan.C, .K = K, .centred = plan.centred, .solve = true}, prep, plan.chunks);
    ScanArguments of_launch = scan;
    if (segments) {
      segments->launch(stream, scan, nullptr);
      segments->use(of_launch);
    }
    kernels.scan(stream, {.C = plan.C, .K = K, .for_backward = false, .warps = plan.warps}, of_launch,
                 plan.segments.segments);
  }
  if (final_state.defined() && final_state.dtype() != outputs.final_state.dtype()) {
    backend_of(final_state).copy(final_state, outputs.final_state);
  }
}

}  // namespace deltatape::cuda::kda::v1
