#include "ops/reduction.h"

#include <algorithm>
#include <array>
#include <limits>

#include "autograd/record.h"
#include "backends/backend.h"
#include "ops/arithmetic.h"
#include "ops/checks.h"
#include "ops/comparison.h"
#include "ops/convert.h"
#include "ops/creation.h"
#include "ops/joining.h"
#include "ops/scatter.h"
#include "ops/unary.h"
#include "ops/views.h"

namespace deltatape {
namespace {

// Shape of a reduction's result: `kept` with a size of 1 for each reduced dimension, `out` as the caller wants it.
struct ReducedShape {
  Shape kept;
  Shape out;
  int64_t count = 1;  // elements of x behind each one of the result
};

ReducedShape reduced_shape(std::string_view function, const Tensor& x, const Shape& dims, bool keepdim) {
  std::array<bool, kMaxRank> reduced{};
  for (const int64_t dim : dims) {
    const int d = normalize_dim(function, "an entry of dims", dim, x.rank());
    check(!reduced[static_cast<size_t>(d)], function, "dims is {}, expected distinct dimensions", dims);
    reduced[static_cast<size_t>(d)] = true;
  }
  ReducedShape shape{x.shape(), {}, 1};
  for (int d = 0; d < x.rank(); ++d) {
    if (reduced[static_cast<size_t>(d)]) {
      shape.kept[d] = 1;
      shape.count *= x.shape()[d];
    } else {
      shape.out.push_back(x.shape()[d]);
    }
  }
  if (keepdim) {
    shape.out = shape.kept;
  }
  return shape;
}

// For functions that have no value over nothing.
void check_size(std::string_view function, const Tensor& x, int dim) {
  check(x.shape()[dim] > 0, function, "x has shape {}, expected a size above 0 along dimension {}", x.shape(), dim);
}

Shape all_dims(const Tensor& x) {
  Shape dims;
  for (int d = 0; d < x.rank(); ++d) {
    dims.push_back(d);
  }
  return dims;
}

// The handle that a caller gets on a fresh dense result: other sizes, no node on the tape.
Tensor reshaped(const Tensor& fresh, const Shape& shape) { return fresh.as_view(shape, contiguous_strides(shape), 0); }

Tensor reduced(ReduceKind kind, const Tensor& x, const Shape& kept) {
  Tensor out = empty(kept, x.options());
  backend_of(x).reduce(kind, x, out);
  return out;
}

// The product of all other entries along `dim`, without division, so that zeros do no harm: products of pairs, the
// same for those recursively, and back. O(n) work.
Tensor product_of_others(const Tensor& x, int dim) {
  const int64_t n = x.shape()[dim];
  if (n == 1) {
    return ones_like(x);
  }
  const int64_t half = (n + 1) / 2;
  const Tensor low = slice(x, dim, {0, half});
  Tensor high = slice(x, dim, {half, n});
  if (n % 2 != 0) {
    high = cat({high, ones_like(slice(x, dim, {0, 1}))}, dim);
  }
  const Tensor others = product_of_others(mul(low, high), dim);
  return slice(cat({mul(others, high), mul(others, low)}, dim), dim, {0, n});
}

Tensor extreme(std::string_view function, bool largest, const Tensor& x, int64_t dim_in, bool keepdim) {
  check_defined(function, "x", x);
  check_number(function, "x", x);
  const int dim = normalize_dim(function, "dim", dim_in, x.rank());
  check_size(function, x, dim);
  const ReducedShape shape = reduced_shape(function, x, {dim}, keepdim);
  Tensor index = empty(shape.kept, DType::i64, x.device());
  backend_of(x).arg_reduce(largest, x, dim, index);
  Tensor out = empty(shape.kept, x.options());
  backend_of(x).gather(x, dim, index, out);
  return record(largest ? "max" : "min", reshaped(out, shape.out), {x},
                [index = std::move(index), full = x.shape(), dim](const RuleContext& c) {
                  return Gradients{scatter_into_zeros(full, dim, index, reshape(c.grad(0), index.shape()))};
                });
}

Tensor extreme_index(std::string_view function, bool largest, const Tensor& x, int64_t dim_in, bool keepdim) {
  check_defined(function, "x", x);
  check_number(function, "x", x);
  const int dim = normalize_dim(function, "dim", dim_in, x.rank());
  check_size(function, x, dim);
  const ReducedShape shape = reduced_shape(function, x, {dim}, keepdim);
  const Tensor index = empty(shape.kept, DType::i64, x.device());
  backend_of(x).arg_reduce(largest, x, dim, index);
  return reshaped(index, shape.out);
}

}  // namespace

Tensor sum(const Tensor& x) {
  check_defined("sum", "x", x);
  return sum(x, all_dims(x));
}

Tensor sum(const Tensor& x, const Shape& dims, bool keepdim) {
  check_defined("sum", "x", x);
  const ReducedShape shape = reduced_shape("sum", x, dims, keepdim);
  const Tensor terms = is_floating(x.dtype()) ? x : to(x, DType::i64);
  return record("sum", reshaped(reduced(ReduceKind::sum, terms, shape.kept), shape.out), {terms},
                [kept = shape.kept, full = x.shape()](const RuleContext& c) {
                  return Gradients{expand(reshape(c.grad(0), kept), full)};
                });
}

Tensor mean(const Tensor& x) {
  check_defined("mean", "x", x);
  return mean(x, all_dims(x));
}

Tensor mean(const Tensor& x, const Shape& dims, bool keepdim) {
  check_defined("mean", "x", x);
  check_floating("mean", "x", x);
  const int64_t count = reduced_shape("mean", x, dims, keepdim).count;
  // The sum of many f16 numbers may be out of range where their mean is not.
  const Tensor wide = to(x, promote(x.dtype(), DType::f32));
  return to(div(sum(wide, dims, keepdim), static_cast<double>(count)), x.dtype());
}

Tensor var(const Tensor& x, const Shape& dims, int64_t correction, bool keepdim) {
  check_defined("var", "x", x);
  check_floating("var", "x", x);
  check(correction >= 0, "var", "correction is {}, expected 0 or more", correction);
  const int64_t freedom = reduced_shape("var", x, dims, keepdim).count - correction;
  const Tensor wide = to(x, promote(x.dtype(), DType::f32));
  const Tensor total = sum(square(sub(wide, mean(wide, dims, true))), dims, keepdim);
  const double divisor = freedom > 0 ? static_cast<double>(freedom) : std::numeric_limits<double>::quiet_NaN();
  return to(div(total, divisor), x.dtype());
}

Tensor prod(const Tensor& x, int64_t dim_in, bool keepdim) {
  check_defined("prod", "x", x);
  check_number("prod", "x", x);
  const int dim = normalize_dim("prod", "dim", dim_in, x.rank());
  const ReducedShape shape = reduced_shape("prod", x, {dim}, keepdim);
  return record("prod", reshaped(reduced(ReduceKind::prod, x, shape.kept), shape.out), {x},
                [x = Saved(x), kept = shape.kept, dim](const RuleContext& c) {
                  const Tensor& factors = x;
                  if (factors.numel() == 0) {
                    return Gradients{zeros_like(factors)};
                  }
                  const Tensor wide = to(factors, promote(factors.dtype(), DType::f32));
                  const Tensor slope = to(product_of_others(wide, dim), factors.dtype());
                  return Gradients{mul(slope, reshape(c.grad(0), kept))};
                });
}

Tensor max(const Tensor& x, int64_t dim, bool keepdim) { return extreme("max", true, x, dim, keepdim); }
Tensor min(const Tensor& x, int64_t dim, bool keepdim) { return extreme("min", false, x, dim, keepdim); }

Tensor max(const Tensor& x) {
  check_defined("max", "x", x);
  return extreme("max", true, reshape(x, {x.numel()}), 0, false);
}

Tensor min(const Tensor& x) {
  check_defined("min", "x", x);
  return extreme("min", false, reshape(x, {x.numel()}), 0, false);
}

Tensor argmax(const Tensor& x, int64_t dim, bool keepdim) { return extreme_index("argmax", true, x, dim, keepdim); }
Tensor argmin(const Tensor& x, int64_t dim, bool keepdim) { return extreme_index("argmin", false, x, dim, keepdim); }

Tensor logsumexp(const Tensor& x, int64_t dim_in, bool keepdim) {
  check_defined("logsumexp", "x", x);
  check_floating("logsumexp", "x", x);
  const int dim = normalize_dim("logsumexp", "dim", dim_in, x.rank());
  const DType wide = promote(x.dtype(), DType::f32);
  if (x.dtype() != wide) {
    return to(logsumexp(to(x, wide), dim, keepdim), x.dtype());
  }
  const ReducedShape shape = reduced_shape("logsumexp", x, {dim}, keepdim);
  Tensor out;
  {
    const NoGradGuard unrecorded;
    Tensor top = zeros(shape.kept, x.options());
    if (x.shape()[dim] > 0) {
      top = reduced(ReduceKind::max, x, shape.kept);
      top = where(isfinite(top), top, zeros_like(top));  // inf - inf would be NaN
    }
    out = add(log(sum(exp(sub(x, top)), {dim}, true)), top);
  }
  return record("logsumexp", reshaped(out, shape.out), {x},
                [x = Saved(x), kept = shape.kept](const RuleContext& c, Outputs outputs) {
                  const Tensor y = reshape(outputs[0], kept);
                  // A row of -inf alone: its result is -inf, and exp(x - 0) = 0 is its gradient.
                  const Tensor reference = masked_fill(y, eq(y, -std::numeric_limits<double>::infinity()), 0.0);
                  return Gradients{mul(exp(sub(x, reference)), reshape(c.grad(0), kept))};
                });
}

Tensor cumsum(const Tensor& x, int64_t dim_in, bool reverse) {
  check_defined("cumsum", "x", x);
  const int dim = normalize_dim("cumsum", "dim", dim_in, x.rank());
  const Tensor terms = is_floating(x.dtype()) ? x : to(x, DType::i64);
  Tensor out = empty(terms.shape(), terms.options());
  backend_of(terms).cumsum(terms, dim, reverse, out);
  return record("cumsum", std::move(out), {terms},
                [dim, reverse](const RuleContext& c) { return Gradients{cumsum(c.grad(0), dim, !reverse)}; });
}

Tensor norm(const Tensor& x) {
  check_defined("norm", "x", x);
  check_floating("norm", "x", x);
  const DType wide = promote(x.dtype(), DType::f32);
  if (x.dtype() != wide) {
    return to(norm(to(x, wide)), x.dtype());
  }
  Tensor out;
  {
    const NoGradGuard unrecorded;
    out = sqrt(sum(square(x)));
  }
  return record("norm", std::move(out), {x}, [x = Saved(x)](const RuleContext& c, Outputs outputs) {
    const Tensor& y = outputs[0];
    const Tensor divisor = masked_fill(y, eq(y, 0.0), 1.0);  // where y is 0, so is x
    return Gradients{mul(x, div(c.grad(0), divisor))};
  });
}

}  // namespace deltatape
