#include "backends/cuda/kda/v0/forward.h"
#include "backends/cuda/kda/v0/kernels.h"
#include "backends/cuda/kda/v0/launch_prologue.h"

namespace deltatape::cuda::kda::v0 {

template <class T>
void forward(const KernelProblem& problem, const KernelInputs& inputs, const KernelOutputs& outputs) {
  const Device device = inputs.q.device();
  const Stream stream = current_stream(device);
  const Call whole(problem);
  const Split split = split_of<T, Forward>(function_name(problem), whole);
  const Cut cut = cut_forward<T>(whole, problem.workspace_limit);
  const SequenceTables tables = sequence_tables(problem, 0, device);
  for_head_parts(whole, cut.heads, [&](const Call& call) {
    Workspace workspace(device);
    const Operands<T> x = take_operands<T>(workspace, call);
    launch_prologue(stream, call, inputs, x);
    T* const kept = outputs.saved.defined() ? static_cast<T*>(outputs.saved.mutable_raw()) : nullptr;
    launch_program<kThreads>(stream, tables.sequences * split.slices * call.heads, split.shared,
                             Forward<T>{.call = call,
                                        .split = split,
                                        .sequences = tables.sequence_entries(),
                                        .x = x,
                                        .v = Reader<T>(inputs.v),
                                        .initial_state = Reader<T>(inputs.initial_state),
                                        .o = Writer<T>(outputs.o),
                                        .final_state = Writer<T>(outputs.final_state),
                                        .h = Writer<T>(outputs.h),
                                        .checkpoints = {kept, call.HV, call.first_head}});
  });
}

template void forward<float>(const KernelProblem&, const KernelInputs&, const KernelOutputs&);
template void forward<double>(const KernelProblem&, const KernelInputs&, const KernelOutputs&);

}  // namespace deltatape::cuda::kda::v0
