#include "autograd/function.h"

namespace deltatape {

void FunctionContext::save_for_backward(std::vector<Tensor> tensors) { to_save_ = std::move(tensors); }

std::vector<Tensor> FunctionContext::saved() const {
  std::vector<Tensor> tensors;
  tensors.reserve(kept_.size());
  for (const Kept& kept : kept_) {
    tensors.push_back(kept.output >= 0 ? outputs_[static_cast<size_t>(kept.output)] : kept.tensor.get());
  }
  return tensors;
}

std::vector<Tensor> apply_function(const std::shared_ptr<const Function>& function, std::span<const Tensor> inputs) {
  check(function != nullptr, "apply_function", "function is null");
  FunctionContext context;
  std::vector<Tensor> outputs;
  {
    const NoGradGuard guard;
    outputs = function->forward(context, inputs);
  }
  for (size_t i = 0; i < outputs.size(); ++i) {
    check(outputs[i].defined(), function->name(), "forward returned an undefined output {}", i);
    for (const Tensor& input : inputs) {
      if (outputs[i].is_same(input)) {
        outputs[i] = input.detach();  // an output needs a handle of its own
      }
    }
  }
  for (Tensor& tensor : context.to_save_) {
    FunctionContext::Kept kept;
    for (size_t i = 0; i < outputs.size(); ++i) {
      if (tensor.is_same(outputs[i])) {
        kept.output = static_cast<int64_t>(i);
      }
    }
    if (kept.output < 0) {
      kept.tensor = Saved(std::move(tensor));
    }
    context.kept_.push_back(std::move(kept));
  }
  context.to_save_.clear();
  const size_t count = outputs.size();
  record_all(function->name(), outputs, inputs, [function, context, count](const RuleContext& c, Outputs y) mutable {
    context.outputs_ = y;
    context.rule_ = &c;
    std::vector<Tensor> grads;
    for (size_t i = 0; i < count; ++i) {
      grads.push_back(c.grad(i));
    }
    return function->backward(context, grads);
  });
  return outputs;
}

std::vector<Tensor> apply_function(const std::shared_ptr<const Function>& function,
                                   std::initializer_list<Tensor> inputs) {
  return apply_function(function, std::span<const Tensor>(inputs.begin(), inputs.size()));
}

}  // namespace deltatape
