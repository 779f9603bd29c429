// The short convolution of linear-attention layers. Differentiable.
#pragma once

#include "core/tensor.h"

namespace deltatape {

/// Depthwise causal convolution over time:
///   y[b,t,d] = bias[d] + sum_{j=0}^{W-1} weight[d,j] x[b, t-W+1+j, d],
/// where terms from before the start of t's sequence are left out (the last tap is the current step).
/// x [B,T,D]; weight [D,W], W >= 1; bias [D] or undefined. `cu_seqlens` i64 or i32 [N+1] (first 0, non-decreasing, last
/// T, B = 1) cuts the time axis into sequences; undefined: each row is one. Result as x.
Tensor causal_conv1d(const Tensor& x, const Tensor& weight, const Tensor& bias = Tensor(),
                     const Tensor& cu_seqlens = Tensor());

}  // namespace deltatape
