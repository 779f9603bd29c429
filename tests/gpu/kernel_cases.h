// Calls of the CUDA backend's kernels at sizes where lines, packs, warps, blocks and pieces end. Each is checked in f64
// against the CPU's kernels (kernels_test.cpp), and on the host twin in several orders of execution
// (tests/host_exec/orders_test.cpp).
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "backends/backend.h"
#include "core/tensor.h"

namespace deltatape::test {

using Tensors = std::vector<Tensor>;

struct KernelCase {
  std::string name;
  /// Host tensors of a dtype; index tensors are i64 whatever it is.
  std::function<Tensors(DType)> inputs;
  /// Makes outputs on the inputs' device and calls the kernel; returns what it wrote.
  std::function<Tensors(const Backend&, const Tensors&)> call;
  double units = 4;  // unit roundoffs of the result's dtype
  std::vector<DType> dtypes = {DType::f32, DType::f64, DType::bf16, DType::f16};
};

std::vector<KernelCase> reduction_cases();
std::vector<KernelCase> row_cases();
std::vector<KernelCase> indexing_cases();
std::vector<KernelCase> training_cases();
/// All of them.
std::vector<KernelCase> kernel_cases();

// What inputs are made of.

/// A fresh tensor like x: same device and dtype, or another one.
Tensor like(const Tensor& x, const Shape& shape);
Tensor like(const Tensor& x, const Shape& shape, DType dtype);
/// What x is computed in, as rstd and the like have it: f32, or f64 for f64.
DType computed(const Tensor& x);
/// x with gaps: every line twice as long, rows one element longer than that; the elements are x's.
Tensor spread(const Tensor& x);

}  // namespace deltatape::test
