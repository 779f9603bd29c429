#include "ops/kda/decay.h"

#include "ops/arithmetic.h"
#include "ops/creation.h"
#include "ops/joining.h"
#include "ops/linalg.h"
#include "ops/reduction.h"
#include "ops/unary.h"
#include "ops/views.h"

namespace deltatape::kda {
namespace {

/// Decay inside blocks of h rows, [X*C/h,h,K].
struct BlockDecay {
  Tensor from_start;  // of everything up to and including the row's own step
  Tensor to_end;      // of everything after the row's own step
};

/// x [X*C/h,h,..] as the first and the second halves of blocks of 2h rows, each [X*C/(2h),h,..].
std::vector<Tensor> halves(const Tensor& x, int64_t h) {
  return unbind(reshape(x, {x.numel() / (2 * h * x.size(-1)), 2, h, x.size(-1)}), 1);
}

/// The last row of every block, [..,1,K].
Tensor last_row(const Tensor& x) { return slice(x, 1, {-1, std::nullopt}); }

/// The lower left quarters of blocks of 2h rows, [X*C/(2h),2,h,h] with kk first: rows of the second half times columns
/// of the first half. With m the border, exp(G_i - G_j) = exp(g_m + .. + g_i) exp(g_{j+1} + .. + g_{m-1}).
Tensor lower_left(const Tensor& q_second, const std::vector<Tensor>& k, const Tensor& row_decay,
                  const Tensor& column_decay) {
  const Tensor columns = transpose(mul(k[0], column_decay), -1, -2);
  return stack({matmul(mul(k[1], row_decay), columns), matmul(mul(q_second, row_decay), columns)}, 1);
}

/// Blocks [[A,0],[L,B]] from diagonal blocks [X*C/h,2,h,h] and lower left quarters.
Tensor joined(const Tensor& blocks, const Tensor& quarter) {
  const int64_t h = blocks.size(-1);
  const std::vector<Tensor> on_diagonal = unbind(reshape(blocks, {blocks.size(0) / 2, 2, 2, h, h}), 1);
  const Tensor upper = cat({on_diagonal[0], zeros(quarter.shape(), quarter.options())}, -1);
  return cat({upper, cat({quarter, on_diagonal[1]}, -1)}, -2);
}

}  // namespace

DecayedProducts decayed_products(const Tensor& q, const Tensor& k, const Tensor& g) {
  const int64_t C = q.size(-2);
  const int64_t K = q.size(-1);
  const Shape single_rows{q.size(0) * C, 1, K};
  BlockDecay decay{reshape(exp(g), single_rows), ones(single_rows, g.options())};
  // Both matrices, lower triangular, from the diagonal (where the decay is 1) outwards.
  const Tensor diagonal = sum(mul(q, k), {-1});
  Tensor blocks = reshape(stack({zeros_like(diagonal), diagonal}, -1), {diagonal.numel(), 2, 1, 1});
  for (int64_t h = 1; h < C; h *= 2) {
    const std::vector<Tensor> from_start = halves(decay.from_start, h);
    const std::vector<Tensor> to_end = halves(decay.to_end, h);
    blocks = joined(blocks, lower_left(halves(q, h)[1], halves(k, h), from_start[1], to_end[0]));
    decay.from_start = cat({from_start[0], mul(from_start[1], last_row(from_start[0]))}, 1);
    decay.to_end = cat({mul(to_end[0], last_row(from_start[1])), to_end[1]}, 1);
  }
  const std::vector<Tensor> both = unbind(blocks, 1);
  return {both[0], both[1], decay.from_start, decay.to_end};
}

}  // namespace deltatape::kda
