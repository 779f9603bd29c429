// Normalised exponentials and the loss made of them. All differentiable.
#pragma once

#include "core/tensor.h"

namespace deltatape {

/// exp(x - max) / sum along `dim`.
Tensor softmax(const Tensor& x, int64_t dim);
/// log(softmax(x)), without taking the logarithm of a small number.
Tensor log_softmax(const Tensor& x, int64_t dim);

/// How cross_entropy averages.
struct CrossEntropyOptions {
  int64_t ignore_index = -100;  // targets with this value do not count
  bool sum = false;             // the sum instead of the mean over the targets that count
};
/// Mean of -log_softmax(logits)[target] over the targets that count, rank 0; NaN when none counts (0 for the sum).
/// logits [.., C], C >= 1; target i64 or i32 [..] in [0, C) or ignore_index. Computed in f32 or wider, and the
/// result has that dtype; the gradient has that of logits.
Tensor cross_entropy(const Tensor& logits, const Tensor& target, const CrossEntropyOptions& options = {});

}  // namespace deltatape
