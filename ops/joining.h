// Putting tensors together and taking them apart. All differentiable.
#pragma once

#include <vector>

#include "core/tensor.h"

namespace deltatape {

/// The tensors one after another along `dim`: same rank, dtype, device and other sizes. At least one.
Tensor cat(const std::vector<Tensor>& tensors, int64_t dim);
/// The tensors (all of one shape) along a new dimension before `dim`.
Tensor stack(const std::vector<Tensor>& tensors, int64_t dim);
/// Consecutive pieces of these sizes along `dim`, which they must fill. Views. One node on the tape for all pieces, so
/// that backward over n pieces costs one pass, not n.
std::vector<Tensor> split(const Tensor& x, const std::vector<int64_t>& sizes, int64_t dim);
/// Pieces of `size` (the last may be smaller).
std::vector<Tensor> split(const Tensor& x, int64_t size, int64_t dim);
/// All entries along `dim`, which disappears. Views; one node on the tape.
std::vector<Tensor> unbind(const Tensor& x, int64_t dim);

}  // namespace deltatape
