#include "autograd/accumulate.h"

#include "autograd/record.h"
#include "backends/backend.h"

namespace deltatape {
namespace {

bool sole_owner(const Tensor& tensor) {
  return tensor.impl()->use_count() == 1 && tensor.storage()->use_count() == 1 && tensor.is_contiguous() &&
         tensor.storage()->bytes() == static_cast<size_t>(tensor.numel()) * size_of(tensor.dtype());
}

Tensor recorded_sum(const Tensor& a, const Tensor& b) {
  Tensor out = empty(a.shape(), a.options());
  backend_of(a).binary(BinaryKind::add, a, b, out);
  return record("add_gradients", std::move(out), {a, b}, [](const RuleContext& context) {
    return Gradients{context.grad(0), context.grad(0)};
  });
}

}  // namespace

Tensor add_gradients(Tensor sum, const Tensor& term, bool recorded) {
  if (!sum.defined()) {
    return term;
  }
  if (recorded || !sole_owner(sum)) {
    return recorded_sum(sum, term);
  }
  backend_of(sum).add_scaled(term, 1.0, sum);
  return sum;
}

Tensor add_to_gradient(Tensor gradient, const Tensor& term, bool recorded) {
  if (recorded) {
    return gradient.defined() ? recorded_sum(gradient, term) : term;
  }
  if (gradient.defined()) {
    gradient.storage()->bump_version();
    backend_of(gradient).add_scaled(term, 1.0, gradient);
    return gradient;
  }
  if (sole_owner(term)) {
    return term;
  }
  Tensor copy = empty(term.shape(), term.options());
  backend_of(term).copy(term, copy);
  return copy;
}

}  // namespace deltatape
