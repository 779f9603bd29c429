#include "ops/kda/decay.h"

#include <algorithm>

#include "ops/arithmetic.h"
#include "ops/creation.h"
#include "ops/joining.h"
#include "ops/linalg.h"
#include "ops/reduction.h"
#include "ops/unary.h"
#include "ops/views.h"

namespace deltatape::kda {
namespace {

/// Decay inside blocks of h rows.
struct BlockDecay {
  Tensor from_start;  // [X*C/h,h,K], of everything up to and including the row's own step
  Tensor to_end;      // [X*C/h,h,K], of everything after the row's own step; undefined for h = 1, where it is 1
  Tensor whole;       // [X*C/h,1,K], of the block
};

/// x [X*C/h,rows,..] as the first and the second halves of blocks of 2h rows, each [X*C/(2h),rows,..].
std::vector<Tensor> halves(const Tensor& x, int64_t rows) {
  return unbind(reshape(x, {x.numel() / (2 * rows * x.size(-1)), 2, rows, x.size(-1)}), 1);
}

/// The decay inside blocks of 2h rows, from that in their halves.
BlockDecay joined(const std::vector<Tensor>& from_start, const std::vector<Tensor>& to_end, const Tensor& whole) {
  const std::vector<Tensor> part = halves(whole, 1);
  const bool single_rows = to_end.empty();
  const Tensor to_border = single_rows ? part[1] : mul(to_end[0], part[1]);
  return {cat({from_start[0], mul(from_start[1], part[0])}, 1),
          cat({to_border, single_rows ? ones_like(part[1]) : to_end[1]}, 1), mul(part[0], part[1])};
}

/// The lower left quarters of blocks of 2h rows, [X*C/(2h),2,h,h] with kk first: rows of the second half times columns
/// of the first half. With m the border, exp(G_i - G_j) = exp(g_m + .. + g_i) exp(g_{j+1} + .. + g_{m-1}).
Tensor lower_left(const Tensor& q_second, const Tensor& k_second, const Tensor& row_decay, const Tensor& k_decayed) {
  const Tensor columns = transpose(k_decayed, -1, -2);
  return stack({matmul(mul(k_second, row_decay), columns), matmul(mul(q_second, row_decay), columns)}, 1);
}

/// Blocks [[A,0],[L,B]] from diagonal blocks [X*C/h,2,h,h] and lower left quarters.
Tensor joined(const Tensor& blocks, const Tensor& quarter) {
  const int64_t h = blocks.size(-1);
  const std::vector<Tensor> on_diagonal = unbind(reshape(blocks, {blocks.size(0) / 2, 2, 2, h, h}), 1);
  const Tensor upper = cat({on_diagonal[0], zeros(quarter.shape(), quarter.options())}, -1);
  return cat({upper, cat({quarter, on_diagonal[1]}, -1)}, -2);
}

/// The inverse for a gradient [X,C,C]: the lower left quarters of the diagonal blocks of 2, 4, .., C rows.
std::vector<Tensor> lower_left_quarters(Tensor blocks) {
  std::vector<Tensor> quarters;
  for (int64_t h = blocks.size(-1) / 2; h >= 1; h /= 2) {
    const int64_t count = blocks.size(0);
    const std::vector<Tensor> rows = unbind(reshape(blocks, {count, 2, h, 2 * h}), 1);
    quarters.push_back(slice(rows[1], -1, {0, h}));
    blocks = reshape(stack({slice(rows[0], -1, {0, h}), slice(rows[1], -1, {h, 2 * h})}, 1), {2 * count, h, h});
  }
  std::reverse(quarters.begin(), quarters.end());
  return quarters;
}

}  // namespace

Tensor decay_from_start(const Tensor& g) { return exp(cumsum(g, -2)); }

Tensor sum_of_rows_before(const Tensor& x) {
  return cat({zeros_like(slice(x, -2, {0, 1})), cumsum(slice(x, -2, {0, -1}), -2)}, -2);
}

Tensor decay_to_end(const Tensor& g) {
  const Tensor from_row = cumsum(g, -2, true);
  return exp(cat({slice(from_row, -2, {1, std::nullopt}), zeros_like(slice(g, -2, {0, 1}))}, -2));
}

Tensor whole_decay(const Tensor& g) { return unsqueeze(exp(sum(g, {-2})), -1); }

DecayedProducts decayed_products(const Tensor& q, const Tensor& k, const Tensor& g) {
  const int64_t C = q.size(-2);
  const int64_t K = q.size(-1);
  const Tensor step = reshape(exp(g), {q.size(0) * C, 1, K});
  BlockDecay decay{step, Tensor(), step};
  // Both matrices, lower triangular, from the diagonal (where the decay is 1) outwards.
  const Tensor diagonal = sum(mul(q, k), {-1});
  Tensor blocks = reshape(stack({zeros_like(diagonal), diagonal}, -1), {diagonal.numel(), 2, 1, 1});
  for (int64_t h = 1; h < C; h *= 2) {
    const std::vector<Tensor> from_start = halves(decay.from_start, h);
    const std::vector<Tensor> to_end = h == 1 ? std::vector<Tensor>{} : halves(decay.to_end, h);
    const std::vector<Tensor> k_half = halves(k, h);
    const Tensor k_decayed = h == 1 ? k_half[0] : mul(k_half[0], to_end[0]);
    blocks = joined(blocks, lower_left(halves(q, h)[1], k_half[1], from_start[1], k_decayed));
    decay = joined(from_start, to_end, decay.whole);
  }
  const std::vector<Tensor> both = unbind(blocks, 1);
  return {both[0], both[1], decay.from_start, C == 1 ? ones_like(g) : decay.to_end, decay.whole};
}

DecayedProductGradients decayed_products_backward(const Tensor& q, const Tensor& k, const Tensor& g, const Tensor& dkk,
                                                  const Tensor& dqk) {
  const int64_t C = q.size(-2);
  const int64_t K = q.size(-1);
  const Shape& shape = q.shape();
  const std::vector<Tensor> dkk_quarters = lower_left_quarters(dkk);
  const std::vector<Tensor> dqk_quarters = lower_left_quarters(dqk);
  const Tensor dqk_diagonal = unsqueeze(slice(flatten(dqk, 1, 2), 1, {.step = C + 1}), -1);  // [X,C,1]
  DecayedProductGradients gradients{mul(k, dqk_diagonal), mul(q, dqk_diagonal), zeros(shape, q.options())};

  const Tensor step = reshape(exp(g), {q.size(0) * C, 1, K});
  BlockDecay decay{step, Tensor(), step};
  for (size_t level = 0; level < dkk_quarters.size(); ++level) {
    const int64_t h = int64_t{1} << level;
    const std::vector<Tensor> from_start = halves(decay.from_start, h);
    const std::vector<Tensor> to_end = h == 1 ? std::vector<Tensor>{} : halves(decay.to_end, h);
    const auto to_border = [&](const Tensor& x) { return h == 1 ? x : mul(x, to_end[0]); };
    const Tensor& from_border = from_start[1];
    const std::vector<Tensor> k_half = halves(k, h);
    const Tensor q_second = halves(q, h)[1];
    const Tensor& dkk_here = dkk_quarters[level];
    const Tensor& dqk_here = dqk_quarters[level];

    const Tensor columns = to_border(k_half[0]);
    const Tensor dq_rows = mul(matmul(dqk_here, columns), from_border);
    const Tensor dk_rows = mul(matmul(dkk_here, columns), from_border);
    const Tensor dk_columns = to_border(add(matmul(transpose(dkk_here, -1, -2), mul(k_half[1], from_border)),
                                            matmul(transpose(dqk_here, -1, -2), mul(q_second, from_border))));
    // A pair crosses the steps of the second half up to its row, and those of the first half after its column.
    const Tensor at_rows = add(mul(q_second, dq_rows), mul(k_half[1], dk_rows));
    const Tensor dg_second = cumsum(at_rows, -2, true);
    const Tensor dg_first = sum_of_rows_before(mul(k_half[0], dk_columns));

    gradients.dq = add(gradients.dq, reshape(stack({zeros_like(dq_rows), dq_rows}, 1), shape));
    gradients.dk = add(gradients.dk, reshape(stack({dk_columns, dk_rows}, 1), shape));
    gradients.dg = add(gradients.dg, reshape(stack({dg_first, dg_second}, 1), shape));
    decay = joined(from_start, to_end, decay.whole);
  }
  return gradients;
}

}  // namespace deltatape::kda
