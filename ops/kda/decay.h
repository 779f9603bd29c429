// Decay inside a chunk, and products of rows with decay between them, without a positive exponent and without a
// difference of sums (docs/kda.md, "Halving").
#pragma once

#include "core/tensor.h"

namespace deltatape::kda {

/// With G the inclusive cumulative sum of g along the C rows; all differentiable.
struct DecayedProducts {
  Tensor kk;          // [X,C,C], sum_c k_ic k_jc exp(G_ic - G_jc) for i > j, else 0
  Tensor qk;          // [X,C,C], sum_c q_ic k_jc exp(G_ic - G_jc) for i >= j, else 0
  Tensor from_start;  // [X,C,K], exp(G_j)
  Tensor to_end;      // [X,C,K], exp(G_C - G_j), C standing for the last row
  Tensor whole;       // [X,1,K], exp(G_C)
};

/// For q, k, g [X,C,K], C a power of two. Every decay is a product of entries of exp(g), so that for g <= 0 nothing
/// overflows and weak decay keeps its digits beside strong decay; g = -inf (everything before is forgotten) is fine.
DecayedProducts decayed_products(const Tensor& q, const Tensor& k, const Tensor& g);

/// Gradients by explicit formulas of <dkk, kk> + <dqk, qk>, all [X,C,K].
struct DecayedProductGradients {
  Tensor dq;
  Tensor dk;
  Tensor dg;  // each dg_t is the sum over the pairs i >= t > j, every term with its factor exp(g_t)
};

/// The adjoint of decayed_products for its two matrices, from q, k, g [X,C,K] and dkk, dqk [X,C,C]. Entries of dkk on
/// and above the diagonal, and of dqk above it, are not read.
DecayedProductGradients decayed_products_backward(const Tensor& q, const Tensor& k, const Tensor& g, const Tensor& dkk,
                                                  const Tensor& dqk);

/// From g [..,C,K]: exp(G) [..,C,K].
Tensor decay_from_start(const Tensor& g);
/// exp(G_C - G) [..,C,K], from sums of g and not from their difference.
Tensor decay_to_end(const Tensor& g);
/// exp(G_C) [..,K,1].
Tensor whole_decay(const Tensor& g);
/// Sums of x [..,C,K] over the rows before each row.
Tensor sum_of_rows_before(const Tensor& x);

}  // namespace deltatape::kda
