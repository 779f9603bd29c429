#include "tests/gpu/kda/kernel_call.h"

#include <array>

#include "ops/convert.h"
#include "ops/kda/inputs.h"

namespace deltatape::test {
namespace {

Tensor dense(const Tensor& x) { return x.defined() ? contiguous(x.detach()) : x; }

Tensor like(const Tensor& x) { return x.defined() ? empty(x.shape(), x.options()) : x; }

}  // namespace

Tensor copy_to(const Tensor& x, Device device) { return x.defined() ? to(x, device) : x; }

KernelCall kernel_call(const KDACase& c, kda::Form form) {
  const kda::Problem p = kda::check_inputs("kernel_call", c.inputs, c.options);
  KernelCall call;
  call.problem = kda::kernel_problem(p, c.options, form);
  call.inputs = {.q = dense(c.inputs.q),
                 .k = dense(c.inputs.k),
                 .v = dense(c.inputs.v),
                 .g = dense(c.inputs.g),
                 .beta = dense(c.inputs.beta),
                 .A_log = dense(c.inputs.A_log),
                 .dt_bias = dense(c.inputs.dt_bias),
                 .initial_state = dense(c.inputs.initial_state)};
  call.h_shape = kda::h_shape(p, c.options);
  call.with_h = c.options.output_h;
  call.with_final_state = c.options.output_final_state;
  call.d_o = dense(c.d_o);
  call.d_final_state = call.with_final_state ? dense(c.d_ht) : Tensor();
  return call;
}

NamedResults run_kernels(const KernelCall& call, Device device, unsigned gradients) {
  const Backend& backend = backend_of(device);
  const kda::KernelProblem& p = call.problem;
  kda::KernelInputs in = call.inputs;
  for (Tensor* const x : {&in.q, &in.k, &in.v, &in.g, &in.beta, &in.A_log, &in.dt_bias, &in.initial_state}) {
    *x = copy_to(*x, device);
  }
  const TensorOptions computed{p.compute_dtype, device};
  kda::KernelOutputs out;
  out.o = like(in.v);
  if (call.with_final_state) {
    int64_t states = 0;
    for (const kda::Sequence& sequence : p.sequences) {
      states = std::max(states, sequence.state_out + 1);
    }
    const Shape shape = p.state_v_first ? Shape{states, p.HV, p.V, p.K} : Shape{states, p.HV, p.K, p.V};
    out.final_state = empty(shape, in.initial_state.defined() ? in.initial_state.options() : computed);
  }
  if (call.with_h) {
    out.h = empty(call.h_shape, computed);
  }
  if (p.save_intermediates) {
    const kda::KernelPlan plan = backend.kda_plan(p, in.q.dtype(), device);
    out.saved = empty(plan.saved_shape, {plan.saved_dtype, device});
  }
  backend.kda_forward(p, in, out);

  const kda::KernelUpstream upstream{
      .d_o = copy_to(call.d_o, device), .d_final_state = copy_to(call.d_final_state, device), .saved = out.saved};
  const std::array<const Tensor*, 8> inputs{&in.q,    &in.k,     &in.v,       &in.g,
                                            &in.beta, &in.A_log, &in.dt_bias, &in.initial_state};
  const std::array<const char*, 8> names{"dq", "dk", "dv", "dg", "dbeta", "dA_log", "ddt_bias", "dh0"};
  std::array<Tensor, 8> all;
  for (size_t i = 0; i < all.size(); ++i) {
    all[i] = (gradients >> i & 1U) != 0 ? like(*inputs[i]) : Tensor();
  }
  backend.kda_backward(p, in, upstream, {all[0], all[1], all[2], all[3], all[4], all[5], all[6], all[7]});

  NamedResults results{{"o", copy_to(out.o, Device::cpu())}};
  if (out.final_state.defined()) {
    results.emplace_back("ht", copy_to(out.final_state, Device::cpu()));
  }
  if (out.h.defined()) {
    results.emplace_back("h", copy_to(out.h, Device::cpu()));
  }
  for (size_t i = 0; i < all.size(); ++i) {
    if (all[i].defined()) {
      results.emplace_back(names[i], copy_to(all[i], Device::cpu()));
    }
  }
  return results;
}

}  // namespace deltatape::test
