#include "harness/operator.h"

#include "autograd/backward.h"
#include "core/error.h"
#include "ops/convert.h"
#include "ops/creation.h"

namespace deltatape::harness {

NamedTensors run_on_tape(const Function& function, const Case& c) {
  const bool with_gradients = !c.upstream.empty();
  NamedTensors inputs;
  std::vector<std::string> names;
  std::vector<Tensor> leaves;
  for (const auto& [name, tensor] : c.inputs) {
    inputs.emplace_back(name, tensor.detach());
    if (with_gradients && is_floating(tensor.dtype())) {
      inputs.back().second.set_requires_grad(true);
      names.push_back(name);
      leaves.push_back(inputs.back().second);
    }
  }
  NamedTensors results;
  std::vector<Tensor> outputs;
  std::vector<Tensor> upstream;
  for (const auto& [name, output] : function(c.settings, inputs)) {
    results.emplace_back(name, output.detach());
    const Tensor gradient = find(c.upstream, name);
    if (gradient.defined() && output.requires_grad()) {  // a state without tokens and h0 depends on nothing
      outputs.push_back(output);
      upstream.push_back(to(gradient, output.dtype()));
    }
  }
  for (const auto& [name, gradient] : c.upstream) {
    check(find(results, name).defined(), "run_on_tape", "upstream has '{}', which is not among the outputs", name);
  }
  BackwardOptions options;
  options.allow_unused = true;
  const std::vector<Tensor> gradients =
      outputs.empty() ? std::vector<Tensor>(leaves.size()) : grad(outputs, leaves, upstream, options);
  for (size_t i = 0; i < leaves.size(); ++i) {
    results.emplace_back("d" + names[i], gradients[i].defined() ? gradients[i] : zeros_like(leaves[i].detach()));
  }
  return results;
}

Candidate differentiable(std::string name, Function function) {
  return {.name = std::move(name),
          .run = [f = std::move(function)](const Case& c) { return Answer{.results = run_on_tape(f, c)}; }};
}

}  // namespace deltatape::harness
