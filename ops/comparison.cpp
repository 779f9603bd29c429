#include "ops/comparison.h"

#include <limits>

#include "autograd/grad_mode.h"
#include "backends/backend.h"
#include "ops/checks.h"
#include "ops/convert.h"
#include "ops/reduction.h"
#include "ops/views.h"

namespace deltatape {
namespace {

Tensor compare(std::string_view function, CompareKind kind, const Tensor& a, const Tensor& b) {
  const NoGradGuard guard;  // stretching and converting the operands is not worth a node
  const auto [x, y] = broadcast_together(function, a, b);
  Tensor out = empty(x.shape(), DType::boolean, x.device());
  backend_of(out).compare(kind, x, y, out);
  return out;
}

// A tensor and a number that its dtype cannot hold compare in f64.
Tensor compare(std::string_view function, CompareKind kind, const Tensor& a, double b) {
  check_defined(function, "a", a);
  const NoGradGuard guard;
  const Tensor x = holds(a.dtype(), b) ? a : to(a, DType::f64);
  Tensor out = empty(x.shape(), DType::boolean, x.device());
  backend_of(out).compare_scalar(kind, x, b, out);
  return out;
}

// where(condition, a, b) on bool tensors of one shape, without recording.
Tensor choose(const Tensor& condition, const Tensor& a, const Tensor& b) {
  Tensor out = empty(condition.shape(), condition.options());
  backend_of(out).where(condition, a, b, out);
  return out;
}

Broadcasted logical_operands(std::string_view function, const Tensor& a, const Tensor& b) {
  check_defined(function, "a", a);
  check_defined(function, "b", b);
  check_dtype(function, "a", a, DType::boolean);
  check_dtype(function, "b", b, DType::boolean);
  return broadcast_together(function, a, b);
}

int64_t count(std::string_view function, const Tensor& x) {
  check_defined(function, "x", x);
  check_dtype(function, "x", x, DType::boolean);
  return sum(x).to_vector<int64_t>()[0];
}

}  // namespace

Tensor eq(const Tensor& a, const Tensor& b) { return compare("eq", CompareKind::eq, a, b); }
Tensor ne(const Tensor& a, const Tensor& b) { return compare("ne", CompareKind::ne, a, b); }
Tensor lt(const Tensor& a, const Tensor& b) { return compare("lt", CompareKind::lt, a, b); }
Tensor le(const Tensor& a, const Tensor& b) { return compare("le", CompareKind::le, a, b); }
Tensor gt(const Tensor& a, const Tensor& b) { return compare("gt", CompareKind::gt, a, b); }
Tensor ge(const Tensor& a, const Tensor& b) { return compare("ge", CompareKind::ge, a, b); }

Tensor eq(const Tensor& a, double b) { return compare("eq", CompareKind::eq, a, b); }
Tensor ne(const Tensor& a, double b) { return compare("ne", CompareKind::ne, a, b); }
Tensor lt(const Tensor& a, double b) { return compare("lt", CompareKind::lt, a, b); }
Tensor le(const Tensor& a, double b) { return compare("le", CompareKind::le, a, b); }
Tensor gt(const Tensor& a, double b) { return compare("gt", CompareKind::gt, a, b); }
Tensor ge(const Tensor& a, double b) { return compare("ge", CompareKind::ge, a, b); }

Tensor logical_and(const Tensor& a, const Tensor& b) {
  const auto [x, y] = logical_operands("logical_and", a, b);
  return choose(x, y, x);
}

Tensor logical_or(const Tensor& a, const Tensor& b) {
  const auto [x, y] = logical_operands("logical_or", a, b);
  return choose(x, x, y);
}

Tensor logical_not(const Tensor& x) {
  check_defined("logical_not", "x", x);
  check_dtype("logical_not", "x", x, DType::boolean);
  Tensor out = empty(x.shape(), x.options());
  backend_of(x).unary(UnaryKind::logical_not, x, out);
  return out;
}

Tensor isnan(const Tensor& x) {
  check_defined("isnan", "x", x);
  return ne(x, x);
}

Tensor isfinite(const Tensor& x) {
  check_defined("isfinite", "x", x);
  if (!is_floating(x.dtype())) {
    return eq(x, x);
  }
  Tensor magnitude = empty(x.shape(), x.options());
  backend_of(x).unary(UnaryKind::abs, x, magnitude);
  return lt(magnitude, std::numeric_limits<double>::infinity());
}

bool any(const Tensor& x) { return count("any", x) > 0; }
bool all(const Tensor& x) { return count("all", x) == x.numel(); }

}  // namespace deltatape
