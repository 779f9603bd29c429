// Second derivatives: Newton's method with Hessian-vector products, each a gradient of a gradient.
#include <cmath>
#include <iostream>

#include "deltatape.h"

using namespace deltatape;

namespace {

// Rosenbrock's valley; its minimum is 0 at (1, 1).
Tensor rosenbrock(const Tensor& x) {
  const Tensor head = slice(x, 0, {.stop = -1});
  const Tensor tail = slice(x, 0, {.start = 1});
  return sum(100.0 * square(tail - square(head)) + square(1.0 - head));
}

// The gradient at x, and a function v |-> H v. H itself is never formed.
struct Local {
  explicit Local(const Tensor& at)
      : x(at.detach().set_requires_grad()), gradient(grad(rosenbrock(x), x, Tensor(), {.create_graph = true})) {}
  Tensor hessian_times(const Tensor& v) const { return grad(sum(gradient * v), x, Tensor(), {.retain_graph = true}); }

  Tensor x;
  Tensor gradient;
};

double dot(const Tensor& a, const Tensor& b) { return sum(a * b).item(); }

// Solves H p = -gradient by conjugate gradients; stops where the curvature is not positive.
Tensor newton_direction(const Local& local) {
  const Tensor negative = -local.gradient.detach();
  Tensor p = zeros_like(negative);
  Tensor residual = negative;
  Tensor direction = residual;
  for (int i = 0; i < 50 && dot(residual, residual) > 1e-24; ++i) {
    const Tensor curved = local.hessian_times(direction);
    const double curvature = dot(direction, curved);
    if (curvature <= 0.0) {
      return i == 0 ? negative : p;
    }
    const double before = dot(residual, residual);
    p = p + direction * (before / curvature);
    residual = residual - curved * (before / curvature);
    direction = residual + direction * (dot(residual, residual) / before);
  }
  return p;
}

}  // namespace

int main() {
  Tensor x = from_vector<double>({-1.2, 1.0});
  for (int step = 0; step < 100; ++step) {
    const Local local(x);
    const double value = rosenbrock(x).item();
    if (step % 5 == 0) {
      std::cout << "step " << step << ": f = " << value << "\n";
    }
    if (value < 1e-20) {
      break;
    }
    const Tensor p = newton_direction(local);
    double length = 1.0;
    while (length > 1e-12 &&
           rosenbrock(x + p * length).item() > value + 1e-4 * length * dot(local.gradient.detach(), p)) {
      length *= 0.5;
    }
    x = x + p * length;
  }
  std::cout << "minimum found at " << x << "\n";
  return rosenbrock(x).item() < 1e-12 ? 0 : 1;
}
