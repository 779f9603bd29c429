// Between the numbers of a plain call and the tensors and the problem of a kernel's.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "backends/kda.h"
#include "core/tensor.h"
#include "ops/convert.h"
#include "ops/creation.h"
#include "tests/backends/cuda/kda/v1/plain_call.h"

namespace deltatape::test::kda_v1 {

/// On the device; undefined without numbers.
inline Tensor tensor_of(const std::vector<double>& x, const Shape& shape, DType dtype) {
  return x.empty() ? Tensor() : to(to(from_vector(x, shape), dtype), Device::cuda());
}
inline std::vector<double> numbers_of(const Tensor& x) {
  return x.defined() ? to(to(x, Device::cpu()), DType::f64).to_vector<double>() : std::vector<double>();
}
/// States between [..,K,V] and [..,V,K].
inline std::vector<double> turned(const std::vector<double>& x, int rows, int cols) {
  std::vector<double> y(x.size());
  const auto size = static_cast<size_t>(rows) * static_cast<size_t>(cols);
  for (size_t i = 0; i < x.size(); ++i) {
    const size_t at = i % size;
    y[i - at + at % static_cast<size_t>(cols) * static_cast<size_t>(rows) + at / static_cast<size_t>(cols)] = x[i];
  }
  return y;
}

/// The problem, with states numbered as the sequences are.
inline kda::KernelProblem call_problem(const CallShape& s) {
  kda::KernelProblem p;
  p.B = 1;
  p.T = s.rows;
  p.H = s.H;
  p.HV = s.HV;
  p.K = s.K;
  p.V = s.V;
  for (size_t n = 0; n < s.sequences.size(); ++n) {
    const auto number = static_cast<int64_t>(n);
    p.sequences.push_back({0, s.sequences[n].first, s.sequences[n].second, s.h0 ? number : -1, s.dht ? number : -1});
  }
  p.scale = 1.0 / std::sqrt(s.K);
  p.gate = s.gate;
  p.lower_bound = s.lower_bound;
  p.l2norm = s.l2norm;
  p.beta_sigmoid = s.beta_sigmoid;
  p.beta_factor = s.beta_factor;
  return p;
}

}  // namespace deltatape::test::kda_v1
