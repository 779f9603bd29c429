// Elementwise functions of two tensors. Shapes broadcast as in NumPy and dtypes promote as in PyTorch; a plain number
// takes the tensor's dtype (an integer tensor that cannot hold it becomes f32). Two bool tensors are refused, except by
// where. All differentiable in their floating-point arguments.
#pragma once

#include "core/tensor.h"

namespace deltatape {

Tensor add(const Tensor& a, const Tensor& b);
Tensor sub(const Tensor& a, const Tensor& b);
Tensor mul(const Tensor& a, const Tensor& b);
/// Two integer tensors divide in f32. x / 0 is infinite or NaN as in IEEE 754.
Tensor div(const Tensor& a, const Tensor& b);
/// a^b; the gradient with respect to b is 0 where a is 0 and b >= 0.
Tensor pow(const Tensor& a, const Tensor& b);
/// The larger (smaller) of the two; NaN if either is NaN; at a tie each side gets half of the gradient.
Tensor maximum(const Tensor& a, const Tensor& b);
Tensor minimum(const Tensor& a, const Tensor& b);

Tensor add(const Tensor& a, double b);
Tensor sub(const Tensor& a, double b);
Tensor sub(double a, const Tensor& b);
Tensor mul(const Tensor& a, double b);
Tensor div(const Tensor& a, double b);
Tensor div(double a, const Tensor& b);
/// An integer tensor to a negative power is f32.
Tensor pow(const Tensor& a, double b);

/// condition ? a : b, elementwise; `condition` is bool; all three broadcast.
Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b);
/// x with `value` where `mask` (bool, broadcast to x's shape) is true; no gradient flows there.
Tensor masked_fill(const Tensor& x, const Tensor& mask, double value);

inline Tensor operator+(const Tensor& a, const Tensor& b) { return add(a, b); }
inline Tensor operator-(const Tensor& a, const Tensor& b) { return sub(a, b); }
inline Tensor operator*(const Tensor& a, const Tensor& b) { return mul(a, b); }
inline Tensor operator/(const Tensor& a, const Tensor& b) { return div(a, b); }
inline Tensor operator+(const Tensor& a, double b) { return add(a, b); }
inline Tensor operator+(double a, const Tensor& b) { return add(b, a); }
inline Tensor operator-(const Tensor& a, double b) { return sub(a, b); }
inline Tensor operator-(double a, const Tensor& b) { return sub(a, b); }
inline Tensor operator*(const Tensor& a, double b) { return mul(a, b); }
inline Tensor operator*(double a, const Tensor& b) { return mul(b, a); }
inline Tensor operator/(const Tensor& a, double b) { return div(a, b); }
inline Tensor operator/(double a, const Tensor& b) { return div(a, b); }
Tensor operator-(const Tensor& a);

}  // namespace deltatape
