#include <numeric>

#include "backends/cuda/kda/v0/decode.h"
#include "backends/cuda/kda/v0/kernels.h"
#include "backends/cuda/kda/v0/launch_prologue.h"

namespace deltatape::cuda::kda::v0 {
namespace {

/// Every row of the batch as a sequence.
std::vector<Sequence> rows_as_sequences(const KernelProblem& problem) {
  std::vector<Sequence> sequences;
  for (int64_t n = 0; n < problem.B; ++n) {
    sequences.push_back({.row = n, .begin = 0, .end = problem.T, .state_in = n, .state_out = n});
  }
  return sequences;
}

}  // namespace

template <class T>
void decode(const KernelProblem& problem, const KernelInputs& inputs, const KernelDecode& decode) {
  const Device device = inputs.q.device();
  const Stream stream = current_stream(device);
  KernelProblem with_sequences = problem;
  with_sequences.sequences = rows_as_sequences(problem);
  const Call whole(problem);
  const Split split = split_of<T, Decode>("kda::decode", whole);
  const Cut cut = cut_forward<T>(whole, problem.workspace_limit);
  const SequenceTables tables = sequence_tables(with_sequences, 0, device);
  const SlotTables slots(decode, device);
  for_head_parts(whole, cut.heads, [&](const Call& call) {
    Workspace workspace(device);
    const Operands<T> x = take_operands<T>(workspace, call);
    launch_prologue(stream, call, inputs, x);
    launch_program<kThreads>(stream, tables.sequences * split.slices * call.heads, split.shared,
                             Decode<T>{.call = call,
                                       .split = split,
                                       .tokens = problem.T,
                                       .sequences = tables.sequence_entries(),
                                       .first_slot = slots.first_slot(),
                                       .slots = slots.slots(),
                                       .x = x,
                                       .v = Reader<T>(inputs.v),
                                       .pool = static_cast<T*>(decode.pool.mutable_raw()),
                                       .o = Writer<T>(decode.o)});
  });
}

template void decode<float>(const KernelProblem&, const KernelInputs&, const KernelDecode&);
template void decode<double>(const KernelProblem&, const KernelInputs&, const KernelDecode&);

}  // namespace deltatape::cuda::kda::v0
