#include "autograd/alias.h"

#include "autograd/record.h"

namespace deltatape {

Tensor alias(const Tensor& x) {
  if (!x.defined()) {
    return {};
  }
  return record("alias", x.detach(), {x}, [](const RuleContext& c) { return Gradients{c.grad(0)}; });
}

}  // namespace deltatape
