// Linear maps and tables of vectors.
#pragma once

#include "core/generator.h"
#include "nn/module.h"

namespace deltatape::nn {

/// y = x weight' + bias.
class Linear : public Module {
 public:
  /// weight [out_features, in_features] normal with standard deviation `deviation`; bias [out_features] zero, or
  /// none. f32.
  Linear(int64_t in_features, int64_t out_features, Generator& generator, bool with_bias = true,
         double deviation = 0.02);

  /// x [.., in_features] gives [.., out_features]. Throws Error when the last size differs.
  [[nodiscard]] Tensor forward(const Tensor& x) const;

  Tensor weight;
  Tensor bias;  // undefined without one
};

/// A vector for each of `count` indices.
class Embedding : public Module {
 public:
  /// weight [count, dim] normal with standard deviation `deviation`. f32.
  Embedding(int64_t count, int64_t dim, Generator& generator, double deviation = 0.02);

  /// ids i64 or i32 [..], each in [0, count), give [.., dim].
  [[nodiscard]] Tensor forward(const Tensor& ids) const;

  Tensor weight;
};

}  // namespace deltatape::nn
