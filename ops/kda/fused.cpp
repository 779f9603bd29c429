#include "ops/kda/fused.h"

#include <array>
#include <utility>

#include "autograd/alias.h"
#include "autograd/backward.h"
#include "autograd/record.h"
#include "backends/backend.h"
#include "ops/convert.h"
#include "ops/kda/chunk.h"
#include "ops/kda/inputs.h"
#include "ops/kda/recurrent.h"
#include "ops/views.h"

namespace deltatape::kda {
namespace {

using Twin = Output (*)(const Inputs&, const Options&);

Tensor dense(const Tensor& x) { return x.defined() ? contiguous(x.detach()) : x; }

KernelInputs dense_inputs(const Inputs& in) {
  return {.q = dense(in.q),
          .k = dense(in.k),
          .v = dense(in.v),
          .g = dense(in.g),
          .beta = dense(in.beta),
          .A_log = dense(in.A_log),
          .dt_bias = dense(in.dt_bias),
          .initial_state = dense(in.initial_state)};
}

/// What backward needs; the tensors keep their history, for gradients of gradients.
struct SavedCall {
  std::array<Saved, kDifferentiable> tensors;
  Saved cu_seqlens;
  Saved segment_ids;
  Options options;
  KernelProblem problem;
  Tensor saved;  // by forward for backward; undefined: computed again
  Twin twin = nullptr;

  [[nodiscard]] Inputs inputs() const {
    Inputs in;
    const auto members = differentiable(in);
    for (size_t i = 0; i < kDifferentiable; ++i) {
      *members[i] = tensors[i].get();
    }
    in.cu_seqlens = cu_seqlens.get();
    in.segment_ids = segment_ids.get();
    return in;
  }
};

Gradients fused_gradients(const SavedCall& call, const RuleContext& c) {
  const Inputs in = call.inputs();
  const KernelUpstream upstream{
      .d_o = c.has_grad(0) ? dense(c.grad(0)) : Tensor(),
      .d_final_state = call.options.output_final_state && c.has_grad(1) ? dense(c.grad(1)) : Tensor(),
      .saved = call.saved};
  const auto inputs = differentiable(in);
  Gradients all(kDifferentiable);
  for (size_t i = 0; i < kDifferentiable; ++i) {
    if (c.needs_grad(i)) {
      all[i] = empty(inputs[i]->shape(), inputs[i]->options());
    }
  }
  const KernelGradients gradients{all[0], all[1], all[2], all[3], all[4], all[5], all[6], all[7]};
  backend_of(in.q).kda_backward(call.problem, dense_inputs(in), upstream, gradients);
  return all;
}

/// The rule under create_graph: the composed twin on the tape, so that its gradients have gradients.
Gradients twin_gradients(const SavedCall& call, const RuleContext& c) {
  Inputs in = call.inputs();
  std::vector<Edge> targets;
  for (Tensor* const member : differentiable(in)) {
    *member = alias(*member);
    targets.push_back(member->defined() ? edge_to(*member) : Edge{});
  }
  std::vector<Edge> wanted;
  for (size_t i = 0; i < kDifferentiable; ++i) {
    if (c.needs_grad(i)) {
      wanted.push_back(targets[i]);
    }
  }
  const Output out = call.twin(in, call.options);
  std::vector<Tensor> roots;
  std::vector<Tensor> upstream;
  if (c.has_grad(0) && out.o.requires_grad()) {
    roots.push_back(out.o);
    upstream.push_back(c.grad(0));
  }
  if (call.options.output_final_state && c.has_grad(1) && out.final_state.requires_grad()) {
    roots.push_back(out.final_state);
    upstream.push_back(c.grad(1));
  }
  Gradients all(kDifferentiable);
  if (roots.empty()) {
    return all;
  }
  std::vector<Tensor> found =
      grad_at_edges(roots, upstream, wanted, {.retain_graph = true, .create_graph = true}, TargetMode::stop);
  for (size_t i = 0, next = 0; i < kDifferentiable; ++i) {
    if (c.needs_grad(i)) {
      all[i] = std::move(found[next++]);
    }
  }
  return all;
}

Output run_fused(std::string_view name, Form form, Twin twin, const Inputs& in, const Options& options) {
  const Problem p = check_inputs(name, in, options);
  const KernelProblem problem = kernel_problem(p, options, form);
  const TensorOptions computed{p.compute_dtype, in.q.device()};
  const Shape state = options.state_v_first ? Shape{p.N, p.HV, p.V, p.K} : Shape{p.N, p.HV, p.K, p.V};
  const auto members = differentiable(in);
  std::vector<Tensor> tensors;
  tensors.reserve(kDifferentiable);
  for (const Tensor* const member : members) {
    tensors.push_back(*member);
  }
  const bool recorded = detail::wants_gradient(tensors);

  KernelOutputs results;
  results.o = empty(in.v.shape(), in.v.options());
  if (options.output_final_state) {
    results.final_state = empty(state, in.initial_state.defined() ? in.initial_state.options() : computed);
  }
  if (options.output_h) {
    results.h = empty(h_shape(p, options), computed);
  }
  if (recorded && options.save_intermediates) {
    const KernelPlan plan = backend_of(in.q).kda_plan(problem, in.q.dtype(), in.q.device());
    results.saved = empty(plan.saved_shape, {plan.saved_dtype, in.q.device()});
  }
  backend_of(in.q).kda_forward(problem, dense_inputs(in), results);

  std::vector<Tensor> outputs{results.o};
  if (options.output_final_state) {
    outputs.push_back(results.final_state);
  }
  if (recorded) {
    SavedCall call;
    for (size_t i = 0; i < kDifferentiable; ++i) {
      call.tensors[i] = Saved(tensors[i]);
    }
    call.cu_seqlens = Saved(in.cu_seqlens);
    call.segment_ids = Saved(in.segment_ids);
    call.options = options;
    call.options.output_h = false;
    call.problem = problem;
    call.saved = results.saved;
    call.twin = twin;
    record_all(name, outputs, tensors, [call = std::move(call)](const RuleContext& c) {
      return grad_enabled() ? twin_gradients(call, c) : fused_gradients(call, c);
    });
  }
  Output out;
  out.o = outputs[0];
  out.final_state = options.output_final_state ? outputs[1] : Tensor();
  out.h = results.h;
  out.kernel = name;
  return out;
}

}  // namespace

Output fused_recurrent(const Inputs& inputs, const Options& options) {
  return run_fused("kda::fused_recurrent", Form::recurrent, recurrent, inputs, options);
}

Output fused_chunk(const Inputs& inputs, const Options& options) {
  return run_fused("kda::fused_chunk", Form::chunk, chunk, inputs, options);
}

}  // namespace deltatape::kda
