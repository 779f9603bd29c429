// Other shapes for the same memory. Every result is a view unless stated; all are differentiable. Negative dimensions
// count from the end. Errors name function, argument, expected and actual.
#pragma once

#include <optional>
#include <vector>

#include "core/tensor.h"

namespace deltatape {

/// A range of a dimension: start (default 0) up to but without stop (default: the size), every step-th entry (step >=
/// 1). Negative bounds count from the end; bounds beyond the size are cut to it, as in Python.
struct Slice {
  std::optional<int64_t> start = std::nullopt;
  std::optional<int64_t> stop = std::nullopt;
  int64_t step = 1;
};

/// `x` with another shape of as many elements; one size may be -1 (inferred). A copy when x's strides do not allow a
/// view.
Tensor reshape(const Tensor& x, const Shape& shape);
/// Joins dimensions first..last into one; rank 0 (first and last 0 or -1) becomes [1].
Tensor flatten(const Tensor& x, int64_t first = 0, int64_t last = -1);
/// Dimension i of the result is dimension dims[i] of x.
Tensor permute(const Tensor& x, const Shape& dims);
/// Swaps two dimensions.
Tensor transpose(const Tensor& x, int64_t dim0, int64_t dim1);
Tensor slice(const Tensor& x, int64_t dim, const Slice& range);
/// Entry `index` (negative: from the end) along `dim`, which disappears.
Tensor select(const Tensor& x, int64_t dim, int64_t index);
/// Removes dimension `dim`, which must have size 1.
Tensor squeeze(const Tensor& x, int64_t dim);
/// Puts a dimension of size 1 before `dim`, 0 <= dim <= rank (negative: from the end of the result).
Tensor unsqueeze(const Tensor& x, int64_t dim);
/// Stretches sizes of 1, and adds leading dimensions, to reach `shape`; -1 keeps a size. Throws Error when
/// the number of elements leaves int64_t. The gradient is summed back.
Tensor expand(const Tensor& x, const Shape& shape);
/// Reverses the order along `dims`. A copy.
Tensor flip(const Tensor& x, const Shape& dims);
/// All windows of `size` entries along `dim`, `step` apart: the dimension becomes the number of windows, and a last
/// dimension of `size` is added. Windows overlap in memory.
Tensor unfold(const Tensor& x, int64_t dim, int64_t size, int64_t step);
/// Zeros of `shape` with x written at `range` along `dim`: the adjoint of slice. A copy.
Tensor embed_slice(const Tensor& x, const Shape& shape, int64_t dim, const Slice& range);

/// Both tensors stretched to their common shape (NumPy's rule) and converted to their promoted dtype; the gradient is
/// summed and converted back. The Error names `function`, and `a` and `b` as the arguments.
struct Broadcasted {
  Tensor a;
  Tensor b;
};
Broadcasted broadcast_together(std::string_view function, const Tensor& a, const Tensor& b);
/// The adjoint of expand: sums x over the dimensions in which `shape` is smaller. `x` itself when the shapes are equal.
Tensor sum_to(const Tensor& x, const Shape& shape);

}  // namespace deltatape
