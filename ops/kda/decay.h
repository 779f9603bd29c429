// Products of rows with decay between them, without a positive exponent and without a difference of sums (docs/kda.md,
// "Halving").
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

}  // namespace deltatape::kda
