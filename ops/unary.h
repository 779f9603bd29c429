// Elementwise functions of one tensor. Floating-point results for floating-point arguments; neg, abs, sign and square
// take integers too. All differentiable (sign, floor, ceil, round have gradient zero).
#pragma once

#include "core/tensor.h"

namespace deltatape {

Tensor neg(const Tensor& x);
/// |x|; gradient sign(x), 0 at 0.
Tensor abs(const Tensor& x);
/// -1, 0 or 1.
Tensor sign(const Tensor& x);
Tensor square(const Tensor& x);
Tensor sqrt(const Tensor& x);
/// 1 / sqrt(x).
Tensor rsqrt(const Tensor& x);
/// 1 / x.
Tensor reciprocal(const Tensor& x);
Tensor exp(const Tensor& x);
/// 2^x.
Tensor exp2(const Tensor& x);
/// exp(x) - 1, accurate near 0.
Tensor expm1(const Tensor& x);
Tensor log(const Tensor& x);
Tensor log2(const Tensor& x);
/// log(1 + x), accurate near 0.
Tensor log1p(const Tensor& x);
Tensor sin(const Tensor& x);
Tensor cos(const Tensor& x);
Tensor tanh(const Tensor& x);
Tensor erf(const Tensor& x);
/// 1 / (1 + exp(-x)), without overflow.
Tensor sigmoid(const Tensor& x);
/// log(sigmoid(x)) = -softplus(-x).
Tensor log_sigmoid(const Tensor& x);
/// log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|)).
Tensor softplus(const Tensor& x);
/// x sigmoid(x), also called swish.
Tensor silu(const Tensor& x);
/// x Phi(x), Phi the normal distribution function (the exact form, with erf).
Tensor gelu(const Tensor& x);
/// max(x, 0); gradient 0 at 0.
Tensor relu(const Tensor& x);
Tensor floor(const Tensor& x);
Tensor ceil(const Tensor& x);
/// To the nearest integer, halves to even.
Tensor round(const Tensor& x);
/// x limited to [low, high]; gradient 1 inside and at the bounds, 0 outside. Throws Error unless low <= high.
Tensor clamp(const Tensor& x, double low, double high);

}  // namespace deltatape
