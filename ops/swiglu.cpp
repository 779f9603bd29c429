#include "ops/swiglu.h"

#include "autograd/grad_mode.h"
#include "autograd/record.h"
#include "backends/backend.h"
#include "ops/activation_backward.h"
#include "ops/arithmetic.h"
#include "ops/checks.h"
#include "ops/convert.h"
#include "ops/creation.h"
#include "ops/unary.h"

namespace deltatape {

Tensor swiglu(const Tensor& a, const Tensor& b) {
  check_defined("swiglu", "a", a);
  check_defined("swiglu", "b", b);
  check_floating("swiglu", "a", a);
  check_same_dtype("swiglu", "b", b, a);
  check_same_device("swiglu", "b", b, a);
  check_shape("swiglu", "b", b, a.shape(), "a's shape");
  Tensor out = empty(a.shape(), a.options());
  backend_of(a).swiglu(a, b, out);
  return record("swiglu", std::move(out), {a, b}, [a = Saved(a), b = Saved(b)](const RuleContext& c) {
    const Tensor& x = a;
    const Tensor& y = b;
    const Tensor& dy = c.grad(0);
    if (grad_enabled()) {
      return Gradients{c.needs_grad(0) ? silu_backward(x, mul(dy, y)) : Tensor(),
                       c.needs_grad(1) ? mul(dy, silu(x)) : Tensor()};
    }
    Gradients gradients{c.needs_grad(0) ? empty(x.shape(), x.options()) : Tensor(),
                        c.needs_grad(1) ? empty(x.shape(), x.options()) : Tensor()};
    backend_of(x).swiglu_backward(contiguous(x), contiguous(y), contiguous(dy), gradients[0], gradients[1]);
    return gradients;
  });
}

}  // namespace deltatape
