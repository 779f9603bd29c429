// The slopes of activations times an upstream gradient, in one pass over memory: what the rules of ops/unary.h call.
// Differentiable in both arguments. x (or y) and dy have one shape and one floating-point dtype.
#pragma once

#include "core/tensor.h"

namespace deltatape {

/// dy y (1 - y), for y = sigmoid(x).
Tensor sigmoid_backward(const Tensor& y, const Tensor& dy);
/// dy (1 - y^2), for y = tanh(x).
Tensor tanh_backward(const Tensor& y, const Tensor& dy);
/// dy s (1 + x (1 - s)), s = sigmoid(x).
Tensor silu_backward(const Tensor& x, const Tensor& dy);
/// dy (Phi(x) + x phi(x)), Phi and phi the normal distribution function and density.
Tensor gelu_backward(const Tensor& x, const Tensor& dy);
/// dy sigmoid(x).
Tensor softplus_backward(const Tensor& x, const Tensor& dy);

}  // namespace deltatape
