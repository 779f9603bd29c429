#include "autograd/function.h"

#include <algorithm>

namespace deltatape {

void FunctionContext::save_for_backward(std::vector<Tensor> tensors) { to_save_ = std::move(tensors); }

std::vector<Tensor> FunctionContext::saved() const {
  std::vector<Tensor> tensors;
  tensors.reserve(kept_.size());
  for (const Kept& kept : kept_) {
    check(!kept.intermediate || !grad_enabled(), "FunctionContext::saved",
          "a saved tensor ({}) is neither input nor output, expected one of them under create_graph: the second "
          "derivative would miss its history; save inputs and compute it again in backward",
          describe(kept.tensor.get()));
    tensors.push_back(kept.output >= 0 ? outputs_[static_cast<size_t>(kept.output)] : kept.tensor.get());
  }
  return tensors;
}

std::vector<Tensor> apply_function(const std::shared_ptr<const Function>& function, std::span<const Tensor> inputs) {
  check(function != nullptr, "apply_function", "function is null, expected a Function");
  FunctionContext context;
  std::vector<Tensor> made;
  {
    const NoGradGuard guard;
    made = function->forward(context, inputs);
  }
  std::vector<Tensor> outputs;  // handles of their own: what forward returned may belong to somebody else
  for (size_t i = 0; i < made.size(); ++i) {
    check(made[i].defined(), function->name(), "forward returned an undefined output {}, expected a tensor", i);
    outputs.push_back(made[i].detach());
  }
  const auto position = [](const Tensor& tensor, std::span<const Tensor> list) {
    const auto found = std::find_if(list.begin(), list.end(), [&](const Tensor& x) { return x.is_same(tensor); });
    return found == list.end() ? int64_t{-1} : found - list.begin();
  };
  for (Tensor& tensor : context.to_save_) {
    FunctionContext::Kept kept;
    const bool is_input = position(tensor, inputs) >= 0;
    if (!is_input) {
      kept.output = position(tensor, made);
    }
    kept.intermediate = !is_input && kept.output < 0 && tensor.defined() && is_floating(tensor.dtype());
    if (kept.output < 0) {
      kept.tensor = Saved(std::move(tensor));
    }
    context.kept_.push_back(std::move(kept));
  }
  context.to_save_.clear();
  const size_t count = outputs.size();
  record_all(function->name(), outputs, inputs, [function, context, count](const RuleContext& c, Outputs y) {
    FunctionContext local = context;  // the walk's own: a graph may be walked by several threads
    local.outputs_ = y;
    local.rule_ = &c;
    std::vector<Tensor> grads;
    for (size_t i = 0; i < count; ++i) {
      grads.push_back(c.grad(i));
    }
    return function->backward(local, grads);
  });
  return outputs;
}

std::vector<Tensor> apply_function(const std::shared_ptr<const Function>& function,
                                   std::initializer_list<Tensor> inputs) {
  return apply_function(function, std::span<const Tensor>(inputs.begin(), inputs.size()));
}

}  // namespace deltatape
