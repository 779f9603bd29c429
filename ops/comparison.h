// Elementwise comparisons and logic: bool results, no gradient. Shapes broadcast, dtypes promote.
#pragma once

#include "core/tensor.h"

namespace deltatape {

Tensor eq(const Tensor& a, const Tensor& b);
Tensor ne(const Tensor& a, const Tensor& b);
Tensor lt(const Tensor& a, const Tensor& b);
Tensor le(const Tensor& a, const Tensor& b);
Tensor gt(const Tensor& a, const Tensor& b);
Tensor ge(const Tensor& a, const Tensor& b);
Tensor eq(const Tensor& a, double b);
Tensor ne(const Tensor& a, double b);
Tensor lt(const Tensor& a, double b);
Tensor le(const Tensor& a, double b);
Tensor gt(const Tensor& a, double b);
Tensor ge(const Tensor& a, double b);
/// The arguments are bool.
Tensor logical_and(const Tensor& a, const Tensor& b);
Tensor logical_or(const Tensor& a, const Tensor& b);
Tensor logical_not(const Tensor& x);
Tensor isnan(const Tensor& x);
/// Neither NaN nor infinite.
Tensor isfinite(const Tensor& x);
/// Whether any (every) element of a bool tensor is true.
bool any(const Tensor& x);
bool all(const Tensor& x);

}  // namespace deltatape
