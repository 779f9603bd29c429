// An op of your own: a Function with a forward and a backward. Here: x |-> log(cosh(x)), a smooth absolute value.
#include <iostream>
#include <memory>

#include "deltatape.h"

using namespace deltatape;

namespace {

struct LogCosh : Function {
  std::string_view name() const override { return "log_cosh"; }

  // log(cosh(x)) = |x| + log1p(exp(-2|x|)) - log(2), without overflow. Nothing in forward is recorded.
  std::vector<Tensor> forward(FunctionContext& context, std::span<const Tensor> inputs) const override {
    context.save_for_backward({inputs[0]});
    const Tensor size = abs(inputs[0]);
    return {size + log1p(exp(-2.0 * size)) - 0.69314718055994531};
  }
  // Written in ops, so the second derivative comes for free.
  Gradients backward(FunctionContext& context, std::span<const Tensor> grads) const override {
    return {tanh(context.saved()[0]) * grads[0]};
  }
};

Tensor log_cosh(const Tensor& x) { return apply_function(std::make_shared<LogCosh>(), {x})[0]; }

}  // namespace

int main() {
  Tensor x = from_vector<double>({-800.0, -1.0, 0.0, 2.0}).set_requires_grad();
  const Tensor y = log_cosh(x);
  sum(y).backward();
  std::cout << "log cosh x = " << y << "\ngradient = " << x.grad() << "\n";

  const TensorFunction f = [](const std::vector<Tensor>& inputs) { return std::vector<Tensor>{log_cosh(inputs[0])}; };
  const Tensor point = from_vector<double>({-3.0, -0.5, 0.1, 2.0});
  const GradcheckReport first = gradcheck(f, {point});
  const GradcheckReport second = gradgradcheck(f, {point});
  std::cout << "first derivative:  " << first.text() << "second derivative:\n" << second.text();
  return first.ok && second.ok ? 0 : 1;
}
