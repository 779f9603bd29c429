// Random tensors. Every function draws from the generator it is given; see core/generator.h for what is reproducible.
#pragma once

#include "core/generator.h"
#include "core/tensor.h"

namespace deltatape {

/// Uniform in [0, 1), floating point.
Tensor rand(const Shape& shape, Generator& generator, TensorOptions options = {});
/// Standard normal, floating point.
Tensor randn(const Shape& shape, Generator& generator, TensorOptions options = {});
/// Uniform integers in [low, high), i64 or i32. Throws Error unless low < high.
Tensor randint(int64_t low, int64_t high, const Shape& shape, Generator& generator,
               TensorOptions options = {DType::i64, Device::cpu()});
/// x with each element set to 0 with probability p and the others divided by 1 - p; 0 <= p < 1. Differentiable.
Tensor dropout(const Tensor& x, double p, Generator& generator);
/// Draws `count` indices per row, with replacement, from unnormalised weights >= 0 with a positive, finite sum: weights
/// [.., C] floating point, result i64 [.., count]. No gradient.
Tensor multinomial(const Tensor& weights, int64_t count, Generator& generator);

}  // namespace deltatape
