#include "ops/convert.h"

#include <utility>

#include "autograd/record.h"
#include "backends/backend.h"
#include "ops/checks.h"

namespace deltatape {

Tensor to(const Tensor& x, DType dtype) {
  check_defined("to", "x", x);
  if (x.dtype() == dtype) {
    return x;
  }
  Tensor out = empty(x.shape(), dtype, x.device());
  backend_of(x).copy(x, out);
  return record("to", std::move(out), std::span(&x, 1),
                [from = x.dtype()](const RuleContext& c) { return Gradients{to(c.grad(0), from)}; });
}

Tensor to(const Tensor& x, Device device) {
  check_defined("to", "x", x);
  if (x.device() == device) {
    return x;
  }
  Tensor out = empty(x.shape(), x.dtype(), device);
  // The accelerator's backend knows both memories.
  backend_of(device.is_cpu() ? x.device() : device).copy(contiguous(x), out);
  return record("to", std::move(out), std::span(&x, 1),
                [from = x.device()](const RuleContext& c) { return Gradients{to(c.grad(0), from)}; });
}

Tensor contiguous(const Tensor& x) {
  check_defined("contiguous", "x", x);
  return x.is_contiguous() ? x : clone(x);
}

Tensor clone(const Tensor& x) {
  check_defined("clone", "x", x);
  Tensor out = empty(x.shape(), x.options());
  backend_of(x).copy(x, out);
  return record("clone", std::move(out), std::span(&x, 1), [](const RuleContext& c) { return Gradients{c.grad(0)}; });
}

}  // namespace deltatape
