// The elementwise functions that every backend has. Their formulas stand once, in elementwise_functions.h.
#pragma once

#include <cstdint>

namespace deltatape {

enum class UnaryKind : uint8_t {
  neg,
  abs,
  sign,
  square,
  sqrt,
  rsqrt,
  reciprocal,
  exp,
  exp2,
  expm1,
  log,
  log2,
  log1p,
  sin,
  cos,
  tanh,
  erf,
  sigmoid,
  log_sigmoid,
  softplus,
  silu,
  gelu,
  relu,
  floor,
  ceil,
  round,
  logical_not,
};

enum class BinaryKind : uint8_t {
  add,
  sub,
  mul,
  div,
  pow,
  maximum,
  minimum,
  // Gradients in one pass over memory. First operand: the input x or output y named; second: the upstream gradient.
  sigmoid_backward,   // y, dy: dy y (1 - y)
  tanh_backward,      // y, dy: dy (1 - y^2)
  silu_backward,      // x, dy: dy s (1 + x (1 - s)), s = sigmoid(x)
  gelu_backward,      // x, dy: dy (Phi(x) + x phi(x))
  softplus_backward,  // x, dy: dy sigmoid(x)
};

enum class CompareKind : uint8_t { eq, ne, lt, le, gt, ge };

}  // namespace deltatape
