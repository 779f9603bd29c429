// Autograd: ops on tensors that require a gradient go on a tape, and backward() walks it in reverse.
#include <iostream>

#include "deltatape.h"

using namespace deltatape;

int main() {
  Tensor x = from_vector<double>({1.0, 2.0, 3.0}).set_requires_grad();
  Tensor w = from_vector<double>({0.5, -1.0, 2.0}).set_requires_grad();

  const Tensor y = sum(sigmoid(w * x));
  std::cout << "what was recorded, for Graphviz:\n" << to_dot(y) << "\n";

  y.backward();  // frees what it passes; pass {.retain_graph = true} to walk the graph again
  std::cout << "dy/dx = " << x.grad() << "\n";
  std::cout << "dy/dw = " << w.grad() << "\n";

  // grad() returns gradients instead of adding them to .grad(). With create_graph they can be differentiated again.
  const Tensor z = sum(pow(x, 3.0));
  const Tensor first = grad(z, x, Tensor(), {.create_graph = true});
  const Tensor second = grad(sum(first), x);
  std::cout << "d(x^3)/dx = " << first.detach() << "\nd2(x^3)/dx2 = " << second << "\n";

  // Nothing is recorded in the scope of a NoGradGuard.
  const NoGradGuard guard;
  std::cout << "recorded here: " << std::boolalpha << (x * w).requires_grad() << "\n";
}
