#include "ops/attention.h"

#include <cmath>
#include <limits>

#include "ops/arithmetic.h"
#include "ops/checks.h"
#include "ops/comparison.h"
#include "ops/creation.h"
#include "ops/linalg.h"
#include "ops/softmax.h"
#include "ops/views.h"

namespace deltatape {
namespace {

constexpr std::string_view kName = "scaled_dot_product_attention";

void check_arguments(const Tensor& q, const Tensor& k, const Tensor& v) {
  const struct {
    std::string_view name;
    const Tensor& tensor;
    std::string_view shape;
  } arguments[] = {{"q", q, "[.., T, D]"}, {"k", k, "[.., S, D]"}, {"v", v, "[.., S, E]"}};
  for (const auto& [name, tensor, shape] : arguments) {
    check_defined(kName, name, tensor);
    check_floating(kName, name, tensor);
    check_same_device(kName, name, tensor, q);
    check_rank_at_least(kName, name, tensor, 2, shape);
  }
  check(k.size(-1) == q.size(-1), kName, "k has shape {}, expected [.., S, D] with D = {}", k.shape(), q.size(-1));
  check(v.size(-2) == k.size(-2), kName, "v has shape {}, expected [.., S, E] with S = {}", v.shape(), k.size(-2));
}

void check_mask(const Tensor& mask, const Tensor& scores) {
  check_same_device(kName, "mask", mask, scores);
  check(mask.dtype() == DType::boolean || is_floating(mask.dtype()), kName,
        "mask has dtype {}, expected bool or a floating-point dtype", mask.dtype());
  bool fits = mask.rank() <= scores.rank();
  for (int d = 1; fits && d <= mask.rank(); ++d) {
    fits = mask.size(-d) == 1 || mask.size(-d) == scores.size(-d);
  }
  check(fits, kName, "mask has shape {}, expected one that broadcasts to [.., T, S] = {}", mask.shape(),
        scores.shape());
}

// scores where `visible`, else -inf: before exp, so that nothing unseen counts or gets a gradient.
Tensor hide(const Tensor& scores, const Tensor& visible) {
  return masked_fill(scores, logical_not(visible), -std::numeric_limits<double>::infinity());
}

}  // namespace

Tensor scaled_dot_product_attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask,
                                    const AttentionOptions& options) {
  check_arguments(q, k, v);
  check(!options.scale || std::isfinite(*options.scale), kName, "scale is {}, expected a finite number",
        options.scale.value_or(0.0));
  const double scale = options.scale.value_or(1.0 / std::sqrt(static_cast<double>(q.size(-1))));
  Tensor scores = matmul(mul(q, scale), transpose(k, -2, -1));  // [.., T, S]
  if (mask.defined()) {
    check_mask(mask, scores);
    scores = mask.dtype() == DType::boolean ? hide(scores, mask) : add(scores, mask);
  }
  if (options.causal) {
    const TensorOptions index{DType::i64, q.device()};
    scores = hide(scores, ge(unsqueeze(arange(q.size(-2), index), 1), arange(k.size(-2), index)));
  }
  return matmul(softmax(scores, -1), v);
}

}  // namespace deltatape
