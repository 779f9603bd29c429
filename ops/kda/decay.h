// Products of rows with decay between them, with no positive exponent anywhere (docs/kda.md, "Halving").
#pragma once

#include "core/tensor.h"

namespace deltatape::kda {

/// sum_{r > j} x_r along `dim`, by adding, not by subtracting from a total.
Tensor exclusive_suffix_sum(const Tensor& x, int64_t dim);

/// For q, k, g [X,C,K], C a power of two, g <= 0, and G the inclusive cumulative sum of g along C:
///   kk[i][j] = sum_c k_ic k_jc exp(G_ic - G_jc) for i > j, else 0;
///   qk[i][j] = sum_c q_ic k_jc exp(G_ic - G_jc) for i >= j, else 0.
/// Both [X,C,C]. Every exponent is formed as a sum of entries of g. Differentiable.
struct DecayedProducts {
  Tensor kk;
  Tensor qk;
};
DecayedProducts decayed_products(const Tensor& q, const Tensor& k, const Tensor& g);

}  // namespace deltatape::kda
