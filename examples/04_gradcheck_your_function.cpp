// Checking a gradient: is the backward of this function right?
#include <iostream>

#include "deltatape.h"

using namespace deltatape;

namespace {

// A softmax along the last dimension whose backward rule was written by hand; `forget` plants a typical mistake.
Tensor my_softmax(const Tensor& x, bool forget) {
  const Tensor y = [&] {
    const NoGradGuard guard;
    const Tensor e = exp(x - max(x, -1, true));
    return e / sum(e, {-1}, true);
  }();
  return record("my_softmax", y, {x}, [forget](const RuleContext& c, Outputs out) {
    const Tensor& p = out[0];
    const Tensor weighted = c.grad(0) * p;
    return Gradients{forget ? weighted : weighted - p * sum(weighted, {-1}, true)};
  });
}

}  // namespace

int main() {
  Generator generator(7);
  const Tensor x = randn({3, 5}, generator, {DType::f64, Device::cpu()});
  bool as_expected = true;
  for (const bool forget : {false, true}) {
    const TensorFunction f = [&](const std::vector<Tensor>& inputs) {
      return std::vector<Tensor>{my_softmax(inputs[0], forget)};
    };
    const GradcheckReport report = gradcheck(f, {x});
    std::cout << (forget ? "without the sum over the row: " : "the right rule:               ") << report.text();
    as_expected = as_expected && report.ok == !forget;
  }
  return as_expected ? 0 : 1;
}
