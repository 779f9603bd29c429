#include "ops/kda/decay.h"

#include "ops/arithmetic.h"
#include "ops/creation.h"
#include "ops/joining.h"
#include "ops/linalg.h"
#include "ops/reduction.h"
#include "ops/unary.h"
#include "ops/views.h"

namespace deltatape::kda {

Tensor exclusive_suffix_sum(const Tensor& x, int64_t dim) {
  Shape last = x.shape();
  last[normalize_dim("exclusive_suffix_sum", "dim", dim, x.rank())] = 1;
  const Tensor shifted = cat({slice(x, dim, {1, std::nullopt}), zeros(last, x.options())}, dim);
  return cumsum(shifted, dim, true);
}

namespace {

/// The entries of both matrices whose rows are in the second half and whose columns are in the first half of blocks of
/// 2h rows: [X*C/(2h),2,h,h], kk first. With m the boundary, exp(G_i - G_j) = exp(sum_{m..i} g) exp(sum_{j+1..m-1} g).
Tensor lower_left(const Tensor& q, const Tensor& k, const Tensor& g, int64_t h) {
  const Shape halves{q.numel() / (2 * h * q.size(-1)), 2, h, q.size(-1)};
  const std::vector<Tensor> g_half = unbind(reshape(g, halves), 1);  // each [..,h,K]
  const std::vector<Tensor> k_half = unbind(reshape(k, halves), 1);
  const Tensor q_second = select(reshape(q, halves), 1, 1);
  const Tensor row_decay = exp(cumsum(g_half[1], 1));
  const Tensor columns =
      transpose(h == 1 ? k_half[0] : mul(k_half[0], exp(exclusive_suffix_sum(g_half[0], 1))), -1, -2);
  return stack({matmul(mul(k_half[1], row_decay), columns), matmul(mul(q_second, row_decay), columns)}, 1);
}

}  // namespace

DecayedProducts decayed_products(const Tensor& q, const Tensor& k, const Tensor& g) {
  const int64_t rows = q.size(-2);  // C
  // Lower-triangular blocks [X*C/h,2,h,h] of both matrices, from the diagonal (where the weight is 1) up to h = C.
  const Tensor diagonal = sum(mul(q, k), {-1});
  Tensor blocks = reshape(stack({zeros_like(diagonal), diagonal}, -1), {diagonal.numel(), 2, 1, 1});
  for (int64_t h = 1; h < rows; h *= 2) {
    const std::vector<Tensor> on_diagonal = unbind(reshape(blocks, {blocks.size(0) / 2, 2, 2, h, h}), 1);
    const Tensor upper = cat({on_diagonal[0], zeros(on_diagonal[0].shape(), q.options())}, -1);
    const Tensor lower = cat({lower_left(q, k, g, h), on_diagonal[1]}, -1);
    blocks = cat({upper, lower}, -2);
  }
  const std::vector<Tensor> both = unbind(blocks, 1);
  return {both[0], both[1]};
}

}  // namespace deltatape::kda
