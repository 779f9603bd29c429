#include "ops/inplace.h"

#include "autograd/grad_mode.h"
#include "backends/backend.h"
#include "ops/checks.h"
#include "ops/convert.h"
#include "ops/overlap.h"
#include "ops/views.h"

namespace deltatape {
namespace {

void check_target(std::string_view function, const Tensor& x) {
  check_defined(function, "x", x);
  check(!x.requires_grad() || x.is_leaf(), function,
        "x is part of a graph, expected a tensor without history (detach() gives one on the same memory)");
  check(!x.requires_grad() || !grad_enabled(), function,
        "x requires a gradient, expected that nothing is recorded meanwhile (use a NoGradGuard)");
  check(x.is_contiguous() || elements_are_distinct(x), function,
        "x has shape {} and strides {}, expected elements that do not overlap in memory", x.shape(), x.strides());
}

void check_source(std::string_view function, std::string_view argument, const Tensor& source, const Tensor& x) {
  check_defined(function, argument, source);
  check(!source.requires_grad() || !grad_enabled(), function,
        "{} requires a gradient, expected that nothing is recorded meanwhile (use a NoGradGuard or detach())",
        argument);
  check_broadcasts_to(function, argument, source, x.shape());
}

// The operand of an arithmetic change of `x`: with its shape and dtype, in memory of its own.
Tensor operand(std::string_view function, const Tensor& y, const Tensor& x) {
  check_source(function, "y", y, x);
  check_same_device(function, "y", y, x);
  check_number(function, "x", x);
  if (is_floating(y.dtype()) && !is_floating(x.dtype())) {
    fail(function, "y has dtype {}, expected an integer dtype for x of dtype {}", y.dtype(), x.dtype());
  }
  const NoGradGuard guard;
  const Tensor converted = to(y, x.dtype());
  const Tensor own = converted.storage() == x.storage() ? clone(converted) : converted;
  return own.shape() == x.shape() ? own : expand(own, x.shape());
}

// Writes `result`, which has x's shape and shares no memory with it.
void write(const Tensor& result, const Tensor& x) {
  x.storage()->bump_version();
  backend_of(x).copy(result, x);
}

}  // namespace

void fill_(Tensor& x, double value) {
  check_target("fill_", x);
  check_representable("fill_", "value", value, x.dtype());
  x.storage()->bump_version();
  backend_of(x).fill(value, x);
}

void copy_(Tensor& x, const Tensor& source) {
  check_target("copy_", x);
  check_source("copy_", "source", source, x);
  const NoGradGuard guard;
  const Tensor here = to(source, x.device());
  const Tensor own = here.storage() == x.storage() ? clone(here) : here;
  write(own.shape() == x.shape() ? own : expand(own, x.shape()), x);
}

void add_(Tensor& x, const Tensor& y, double scale) {
  check_target("add_", x);
  const Tensor term = operand("add_", y, x);
  check_representable("add_", "scale", scale, x.dtype());
  if (x.is_contiguous()) {
    x.storage()->bump_version();
    backend_of(x).add_scaled(term, scale, x);
    return;
  }
  const Tensor result = empty(x.shape(), x.options());
  backend_of(x).copy(x, result);
  backend_of(x).add_scaled(term, scale, result);
  write(result, x);
}

void mul_(Tensor& x, const Tensor& y) {
  check_target("mul_", x);
  const Tensor factor = operand("mul_", y, x);
  const Tensor result = empty(x.shape(), x.options());
  backend_of(x).binary(BinaryKind::mul, x, factor, result);
  write(result, x);
}

void mul_(Tensor& x, double factor) {
  check_target("mul_", x);
  check_number("mul_", "x", x);
  check_representable("mul_", "factor", factor, x.dtype());
  if (x.is_contiguous()) {
    x.storage()->bump_version();
    backend_of(x).binary_scalar(BinaryKind::mul, x, factor, false, x);
    return;
  }
  const Tensor result = empty(x.shape(), x.options());
  backend_of(x).binary_scalar(BinaryKind::mul, x, factor, false, result);
  write(result, x);
}

}  // namespace deltatape
