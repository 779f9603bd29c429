#include "ops/softmax.h"

#include <limits>
#include <string_view>

#include "autograd/record.h"
#include "backends/backend.h"
#include "ops/arithmetic.h"
#include "ops/checks.h"
#include "ops/comparison.h"
#include "ops/convert.h"
#include "ops/creation.h"
#include "ops/index_range.h"
#include "ops/indexing.h"
#include "ops/reduction.h"
#include "ops/unary.h"
#include "ops/views.h"

namespace deltatape {
namespace {

// The gradient of softmax from its output y, over the last dimension: y (dy - sum(y dy)). One kernel, and
// differentiable itself: the Jacobian is symmetric, so its adjoint with respect to dy is the same function.
Tensor softmax_gradient(const Tensor& y, const Tensor& dy) {
  Tensor out = empty(y.shape(), y.options());
  backend_of(y).softmax_backward(y, dy, false, out);
  return record("softmax_backward", std::move(out), {y, dy}, [y = Saved(y), dy = Saved(dy)](const RuleContext& c) {
    const Tensor& u = c.grad(0);
    Gradients gradients(2);
    if (c.needs_grad(0)) {
      gradients[0] = u * (dy - sum(y * dy, {-1}, true)) - dy * sum(u * y, {-1}, true);
    }
    if (c.needs_grad(1)) {
      gradients[1] = softmax_gradient(y, u);
    }
    return gradients;
  });
}

// The same for log_softmax: dy - exp(y) sum(dy).
Tensor log_softmax_gradient(const Tensor& y, const Tensor& dy) {
  Tensor out = empty(y.shape(), y.options());
  backend_of(y).softmax_backward(y, dy, true, out);
  return record("log_softmax_backward", std::move(out), {y, dy}, [y = Saved(y), dy = Saved(dy)](const RuleContext& c) {
    const Tensor& u = c.grad(0);
    const Tensor weighted = u * exp(y);
    Gradients gradients(2);
    if (c.needs_grad(0)) {
      gradients[0] = neg(weighted * sum(dy, {-1}, true));
    }
    if (c.needs_grad(1)) {
      gradients[1] = u - expand(sum(weighted, {-1}, true), u.shape());
    }
    return gradients;
  });
}

Tensor softmax_along(std::string_view name, const Tensor& x, int64_t dim_in, bool log) {
  check_defined(name, "x", x);
  check_floating(name, "x", x);
  const int dim = normalize_dim(name, "dim", dim_in, x.rank());
  if (dim != x.rank() - 1) {
    return transpose(softmax_along(name, transpose(x, dim, -1), -1, log), dim, -1);
  }
  Tensor out = empty(x.shape(), x.options());
  backend_of(x).softmax(x, log, out);
  return record(name, std::move(out), {x}, [log](const RuleContext& c, Outputs y) {
    return Gradients{log ? log_softmax_gradient(y[0], c.grad(0)) : softmax_gradient(y[0], c.grad(0))};
  });
}

// What cross_entropy knows of its targets, one row each.
struct TargetRows {
  Tensor index;         // [N, 1], 0 where the target is ignored
  Tensor weight;        // [N, 1], what the row counts for in the result: 0, 1 or 1 / n
  int64_t counted = 0;  // rows that are not ignored; -1 when the host does not know

  [[nodiscard]] bool any_ignored() const { return counted < index.numel(); }
};

TargetRows target_rows(const Tensor& target, int64_t classes, DType dtype, const CrossEntropyOptions& options) {
  const int64_t rows = target.numel();
  const int64_t counted = check_index_range("cross_entropy", "target", target, classes, options.ignore_index);
  const Tensor column = reshape(target, {rows, 1});
  const Tensor ignored = eq(column, static_cast<double>(options.ignore_index));
  if (counted < 0) {
    const Tensor counts = to(logical_not(ignored), dtype);
    return {masked_fill(column, ignored, 0.0), options.sum ? counts : div(counts, sum(counts)), counted};
  }
  const double share = options.sum || counted == 0 ? 1.0 : 1.0 / static_cast<double>(counted);
  return {masked_fill(column, ignored, 0.0), mul(to(logical_not(ignored), dtype), share), counted};
}

// (softmax(logits) - one_hot(target)) * weight: the gradient of the weighted sum over rows of logits [N, C], made of
// ops, so that it has gradients itself.
Tensor cross_entropy_gradient(const Tensor& logits, const TargetRows& rows, const Tensor& weight) {
  Tensor gradient = mul(softmax(logits, -1), weight);
  if (rows.any_ignored()) {
    // 0 * NaN must not get out of a row that does not count.
    gradient = masked_fill(gradient, eq(rows.weight, 0.0), 0.0);
  }
  return scatter_add(gradient, 1, rows.index, neg(weight));
}

}  // namespace

Tensor softmax(const Tensor& x, int64_t dim) { return softmax_along("softmax", x, dim, false); }

Tensor log_softmax(const Tensor& x, int64_t dim) { return softmax_along("log_softmax", x, dim, true); }

Tensor cross_entropy(const Tensor& logits, const Tensor& target, const CrossEntropyOptions& options) {
  check_defined("cross_entropy", "logits", logits);
  check_defined("cross_entropy", "target", target);
  check_floating("cross_entropy", "logits", logits);
  check_index("cross_entropy", "target", target);
  check_same_device("cross_entropy", "target", target, logits);
  check_rank_at_least("cross_entropy", "logits", logits, 1, "[.., C]");
  Shape expected = logits.shape();
  expected.erase(expected.rank() - 1);
  check_shape("cross_entropy", "target", target, expected, "logits' shape without C");

  const int64_t classes = logits.shape().back();
  check(classes >= 1, "cross_entropy", "logits has shape {}, expected at least one class", logits.shape());
  const DType wide = promote(logits.dtype(), DType::f32);
  const TargetRows rows = target_rows(target, classes, wide, options);
  const Tensor flat = reshape(logits, {target.numel(), classes});
  const Tensor places = to(flatten(rows.index), DType::i64);
  const TensorOptions computed{wide, logits.device()};
  const Tensor terms = empty(places.shape(), computed);
  const Tensor largest = empty(places.shape(), computed);
  const Tensor exponentials = empty(places.shape(), computed);
  Tensor loss;
  {
    const NoGradGuard unrecorded;
    backend_of(flat).cross_entropy(flat, places, terms, largest, exponentials);
    const Tensor weight = flatten(rows.weight);
    const Tensor counted = rows.any_ignored() ? masked_fill(terms, eq(weight, 0.0), 0.0) : terms;
    const bool of_nothing = !options.sum && rows.counted == 0;
    loss = of_nothing ? full({}, std::numeric_limits<double>::quiet_NaN(), computed) : sum(mul(counted, weight));
  }
  return record("cross_entropy", std::move(loss), {flat},
                [flat = Saved(flat), rows, places, largest, exponentials](const RuleContext& c) {
                  const Tensor& x = flat;
                  Tensor weight = mul(rows.weight, c.grad(0));
                  if (rows.any_ignored()) {
                    // An infinite upstream gradient must not get into a row that does not count.
                    weight = masked_fill(weight, eq(rows.weight, 0.0), 0.0);
                  }
                  if (grad_enabled()) {
                    return Gradients{to(cross_entropy_gradient(to(x, weight.dtype()), rows, weight), x.dtype())};
                  }
                  Tensor gradient = empty(x.shape(), x.options());
                  backend_of(x).cross_entropy_backward(x, places, largest, exponentials, flatten(weight), gradient);
                  return Gradients{gradient};
                });
}

}  // namespace deltatape
