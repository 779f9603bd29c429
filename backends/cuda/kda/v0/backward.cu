#include "backends/cuda/kda/v0/backward.h"
#include "backends/cuda/kda/v0/epilogue.h"
#include "backends/cuda/kda/v0/kernels.h"
#include "backends/cuda/kda/v0/launch_prologue.h"

namespace deltatape::cuda::kda::v0 {
namespace {

/// The states that forward did not keep.
template <class T>
void launch_recompute(const Stream& stream, const Call& call, const KernelInputs& inputs, const SequenceTables& tables,
                      const BackwardArrays<T>& arrays, std::string_view function) {
  if (tables.checkpoints == 0) {
    return;
  }
  const Split split = split_of<T, Forward>(function, call);
  launch_program<kThreads>(stream, tables.sequences * split.slices * call.heads, split.shared,
                           Forward<T>{.call = call,
                                      .split = split,
                                      .sequences = tables.sequence_entries(),
                                      .x = arrays.x,
                                      .v = Reader<T>(inputs.v),
                                      .initial_state = Reader<T>(inputs.initial_state),
                                      .o = Writer<T>(Tensor()),
                                      .final_state = Writer<T>(Tensor()),
                                      .h = Writer<T>(Tensor()),
                                      .checkpoints = arrays.checkpoints});
}

template <class T>
void launch_epilogue(const Stream& stream, const Call& call, const Split& split, const KernelInputs& inputs,
                     const KernelGradients& gradients, const Wanted& wanted, const BackwardArrays<T>& arrays) {
  const int64_t keys = call.rows * call.key_heads();
  if (gradients.dq.defined()) {
    launch_program<32>(stream, keys, 0,
                       KeyGradients<T>{call, split.slices, arrays.sums.dq, static_cast<T>(call.scale), arrays.x.q,
                                       arrays.x.q_norm, Writer<T>(gradients.dq)});
  }
  if (gradients.dk.defined()) {
    launch_program<32>(stream, keys, 0,
                       KeyGradients<T>{call, split.slices, arrays.sums.dk, T(1), arrays.x.k, arrays.x.k_norm,
                                       Writer<T>(gradients.dk)});
  }
  if (wanted.log_decay) {
    const GateParameters<T> gate{Reader<T>(inputs.A_log), Reader<T>(inputs.dt_bias)};
    const int64_t row_blocks = (call.rows + kSumRows - 1) / kSumRows;
    launch_program<128>(stream, row_blocks * call.heads, 0,
                        GateGradients<T>{call, split.slices, arrays.sums.dg, Reader<T>(inputs.g), gate,
                                         Writer<T>(gradients.dg), arrays.A_log_sums, arrays.dt_bias_sums});
    launch_program<128>(stream, call.heads, 0,
                        GateSums<T>{call, row_blocks, arrays.A_log_sums, arrays.dt_bias_sums,
                                    Writer<T>(gradients.dA_log), Writer<T>(gradients.ddt_bias)});
  }
  if (gradients.dbeta.defined()) {
    launch_elements(
        stream, call.rows * call.heads,
        BetaGradients<T>{call, split.slices, arrays.sums.dbeta, Reader<T>(inputs.beta), Writer<T>(gradients.dbeta)});
  }
}

}  // namespace

template <class T>
void backward(const KernelProblem& problem, const KernelInputs& inputs, const KernelUpstream& upstream,
              const KernelGradients& gradients) {
  const Device device = inputs.q.device();
  const Stream stream = current_stream(device);
  const Call whole(problem);
  const Extent extent(problem);
  const Wanted wanted(upstream, gradients);
  const Split split = split_of<T, Backward>(function_name(problem), whole);
  const Cut cut = cut_backward<T>(whole, split, extent, wanted, problem.workspace_limit);
  const SequenceTables tables = sequence_tables(problem, 0, device);
  for_head_parts(whole, cut.heads, [&](const Call& call) {
    Workspace workspace(device);
    BackwardArrays<T> arrays(workspace, call, split, extent, wanted, cut.workers);
    launch_prologue(stream, call, inputs, arrays.x);
    if (wanted.recompute) {
      launch_recompute(stream, call, inputs, tables, arrays, function_name(problem));
    } else {
      arrays.checkpoints = {static_cast<T*>(upstream.saved.mutable_raw()), call.HV, call.first_head};
    }
    const int64_t tasks = tables.sequences * split.slices * call.heads;
    const int64_t workers = cut.workers < tasks ? cut.workers : tasks;
    launch_program<kThreads>(stream, workers, split.shared,
                             Backward<T>{.call = call,
                                         .split = split,
                                         .sequences = tables.sequence_entries(),
                                         .tasks = tasks,
                                         .workers = workers,
                                         .x = arrays.x,
                                         .v = Reader<T>(inputs.v),
                                         .initial_state = Reader<T>(inputs.initial_state),
                                         .checkpoints = arrays.checkpoints,
                                         .d_o = Reader<T>(upstream.d_o),
                                         .d_final_state = Reader<T>(upstream.d_final_state),
                                         .sums = arrays.sums,
                                         .dv = Writer<T>(gradients.dv),
                                         .d_initial_state = Writer<T>(gradients.d_initial_state),
                                         .window = extent.window(),
                                         .states = arrays.states,
                                         .errors = arrays.errors});
    launch_epilogue(stream, call, split, inputs, gradients, wanted, arrays);
  });
}

template <class T>
Memory memory_of(const KernelProblem& problem) {
  const Call call(problem);
  Wanted all;
  all.q = all.k = all.beta = all.log_decay = true;
  all.A_log = all.dt_bias = problem.gate != Gate::none;
  all.recompute = !problem.save_intermediates;
  const Split split = split_of<T, Backward>(function_name(problem), call);
  const Cut forward = cut_forward<T>(call, problem.workspace_limit);
  const Cut backward = cut_backward<T>(call, split, Extent(problem), all, problem.workspace_limit);
  return {.forward_bytes = forward.bytes,
          .backward_bytes = backward.bytes,
          .forward_heads = forward.heads,
          .backward_heads = backward.heads};
}

template void backward<float>(const KernelProblem&, const KernelInputs&, const KernelUpstream&, const KernelGradients&);
template void backward<double>(const KernelProblem&, const KernelInputs&, const KernelUpstream&,
                               const KernelGradients&);
template Memory memory_of<float>(const KernelProblem&);
template Memory memory_of<double>(const KernelProblem&);

}  // namespace deltatape::cuda::kda::v0
