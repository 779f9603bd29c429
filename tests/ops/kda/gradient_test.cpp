// First and second derivatives of all implementations against central differences.
#include <doctest/doctest.h>

#include "autograd/gradcheck.h"
#include "ops/kda/gate.h"
#include "tests/ops/kda/kda_cases.h"

namespace deltatape {
namespace {

using test::KDACase;
using test::make_case;

/// The case as a function of its tensors, in the order q, k, v, g, beta and then whichever of A_log, dt_bias, h0 exist.
std::vector<Tensor> tensors_of(const kda::Inputs& in) {
  std::vector<Tensor> tensors{in.q, in.k, in.v, in.g, in.beta};
  for (const Tensor& optional : {in.A_log, in.dt_bias, in.initial_state}) {
    if (optional.defined()) {
      tensors.push_back(optional);
    }
  }
  return tensors;
}

TensorFunction function_of(test::KDAFunction function, const KDACase& c) {
  return [function, c](const std::vector<Tensor>& tensors) {
    kda::Inputs in = c.inputs;
    size_t next = 0;
    for (Tensor* x : {&in.q, &in.k, &in.v, &in.g, &in.beta, &in.A_log, &in.dt_bias, &in.initial_state}) {
      if (x->defined()) {
        *x = tensors[next++];
      }
    }
    const kda::Output out = function(in, c.options);
    return out.final_state.defined() ? std::vector<Tensor>{out.o, out.final_state} : std::vector<Tensor>{out.o};
  };
}

std::vector<KDACase> tiny_cases() {
  kda::Options bare;
  bare.chunk_size = 16;
  bare.output_final_state = true;
  kda::Options everything = bare;
  everything.gate = kda::Gate::standard;
  everything.use_qk_l2norm = true;
  everything.use_beta_sigmoid = true;
  everything.allow_neg_eigval = true;
  kda::Options bounded = everything;
  bounded.gate = kda::Gate::lower_bound;
  bounded.state_v_first = true;
  bounded.safe_gate = true;
  bounded.save_intermediates = true;
  KDACase segments = make_case({2, 4, 1, 1, 2, 2, {}}, bare, 5, test::Decay::bounded);
  segments.inputs.segment_ids = from_vector(std::vector<int64_t>{1, 1, 0, 1, 2, 3, 3, 3}, {2, 4});
  return {make_case({1, 3, 1, 1, 2, 2, {}}, bare, 1, test::Decay::mild),
          make_case({1, 3, 1, 2, 2, 1, {}}, everything, 2), make_case({1, 4, 1, 1, 2, 2, {1, 0, 3}}, bounded, 3),
          segments};
}

TEST_CASE("kda: gradients equal central differences") {
  for (const KDACase& c : tiny_cases()) {
    for (const test::Implementation& implementation : test::implementations()) {
      CAPTURE(implementation.name);
      const GradcheckReport report = gradcheck(function_of(implementation.function, c), tensors_of(c.inputs));
      CHECK_MESSAGE(report.ok, report.text());
    }
  }
}

TEST_CASE("kda: gradients across a chunk border equal central differences") {
  kda::Options options;
  options.chunk_size = 16;
  options.output_final_state = true;
  const KDACase c = make_case({1, 18, 1, 1, 2, 2, {}}, options, 4, test::Decay::mild);
  GradcheckOptions few;
  few.directions = 4;
  for (const test::Implementation& implementation : test::implementations()) {
    CAPTURE(implementation.name);
    const GradcheckReport report = gradcheck(function_of(implementation.function, c), tensors_of(c.inputs), few);
    CHECK_MESSAGE(report.ok, report.text());
  }
}

TEST_CASE("kda: second derivatives equal central differences") {
  for (const KDACase& c : tiny_cases()) {
    for (const test::Implementation& implementation : test::implementations()) {
      CAPTURE(implementation.name);
      GradcheckOptions few;
      few.directions = 3;
      const GradcheckReport report = gradgradcheck(function_of(implementation.function, c), tensors_of(c.inputs), few);
      CHECK_MESSAGE(report.ok, report.text());
    }
  }
}

TEST_CASE("kda::apply_gate: values and gradients") {
  const KDACase c = tiny_cases()[1];
  for (const kda::Gate gate : {kda::Gate::standard, kda::Gate::lower_bound}) {
    const auto f = [gate](const std::vector<Tensor>& x) {
      return std::vector<Tensor>{kda::apply_gate(gate, x[0], x[1], x[2], -5.0)};
    };
    const std::vector<Tensor> inputs{c.inputs.g, c.inputs.A_log, c.inputs.dt_bias};
    for (const double g : f(inputs)[0].to_vector<double>()) {
      CHECK(g < 0.0);
      CHECK((gate == kda::Gate::standard || g > -5.0));
    }
    const GradcheckReport report = gradcheck(f, inputs);
    CHECK_MESSAGE(report.ok, report.text());
  }
}

}  // namespace
}  // namespace deltatape
