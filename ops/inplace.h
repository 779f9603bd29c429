// Changes to a tensor's own memory, for optimizers and buffers. They are never recorded: a tensor that is part of a
// graph, or a leaf while gradients are recorded, is refused, and so are a source that requires a gradient while
// gradients are recorded and a view whose elements overlap in memory. Source and target may share memory. A tensor
// saved for backward notices the change.
#pragma once

#include "core/tensor.h"

namespace deltatape {

/// x[...] = value; integers take whole numbers only.
void fill_(Tensor& x, double value);
/// x[...] = source (broadcast to x's shape, converted to x's dtype).
void copy_(Tensor& x, const Tensor& source);
/// x += scale * y; y broadcasts to x's shape and is converted to x's dtype (a fraction into integers is refused).
void add_(Tensor& x, const Tensor& y, double scale = 1.0);
/// x *= y; y as for add_.
void mul_(Tensor& x, const Tensor& y);
void mul_(Tensor& x, double factor);

}  // namespace deltatape
