// Inputs for kernel tests: tensors of every layout over chosen numbers, and what to compare results with.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "backends/backend.h"
#include "core/tensor.h"

namespace deltatape::test {

inline const Backend& cpu() { return backend_of(Device::cpu()); }

/// Where the elements of a tensor lie.
struct Placement {
  Shape shape;
  Strides strides;
};

/// Rank 0 to 8, dense, strided, broadcast, permuted, empty, longer than a block, and large enough for threads.
inline std::vector<Placement> placements() {
  return {{{}, {}},
          {{1}, {1}},
          {{7}, {1}},
          {{7}, {3}},
          {{5}, {0}},
          {{37}, {1}},
          {{0}, {1}},
          {{3, 0, 2}, {0, 2, 1}},
          {{3, 4}, {4, 1}},
          {{3, 4}, {1, 3}},
          {{3, 4}, {1, 0}},
          {{3, 4}, {0, 1}},
          {{2, 3, 4}, {12, 1, 3}},
          {{3, 700}, {1000, 1}},
          {{3, 700}, {2000, 2}},
          {{1, 5, 1, 3}, {99, 3, 50, 1}},
          {{2, 1, 3, 2, 1, 2, 2, 3}, {72, 72, 24, 12, 12, 6, 3, 1}},
          {{2, 1, 3, 2, 1, 2, 2, 3}, {1, 5, 2, 6, 7, 12, 24, 48}},
          {{40000}, {1}},
          {{150, 300}, {1, 150}},
          {{200, 300}, {301, 1}}};
}

/// `values[k % size]` at place k of the memory under `placement`, converted to `dtype`.
inline Tensor place(const Placement& placement, DType dtype, const std::vector<double>& values) {
  int64_t extent = 1;
  for (int dim = 0; dim < placement.shape.rank(); ++dim) {
    extent += (std::max<int64_t>(placement.shape[dim], 1) - 1) * placement.strides[dim];
  }
  return visit_dtype(dtype, [&](auto tag) {
    using T = decltype(tag);
    std::vector<T> memory(static_cast<size_t>(extent));
    for (size_t k = 0; k < memory.size(); ++k) {
      const double value = values[k % values.size()];
      if constexpr (std::is_same_v<T, bool>) {
        memory[k] = value != 0.0;
      } else if constexpr (std::is_arithmetic_v<T>) {
        memory[k] = static_cast<T>(value);
      } else {
        memory[k] = T(static_cast<float>(value));
      }
    }
    return from_vector(memory).as_view(placement.shape, placement.strides, 0);
  });
}

/// The distance between neighbouring numbers of `dtype` around `value`.
inline double spacing(DType dtype, double value) {
  const int digits = dtype == DType::f64 ? 53 : dtype == DType::f32 ? 24 : dtype == DType::f16 ? 11 : 8;
  const int lowest = dtype == DType::f64 ? -1021 : dtype == DType::f16 ? -13 : -125;
  int exponent = lowest;
  if (value != 0.0) {
    std::frexp(value, &exponent);
  }
  return std::ldexp(1.0, std::max(exponent, lowest) - digits);
}

/// `number` rounded as storing in `dtype` does.
inline double rounded(DType dtype, double number) {
  switch (dtype) {
    case DType::f32:
      return static_cast<double>(static_cast<float>(number));
    case DType::bf16:
      return static_cast<double>(static_cast<float>(BFloat16(static_cast<float>(number))));
    case DType::f16:
      return static_cast<double>(static_cast<float>(Float16(static_cast<float>(number))));
    default:
      return number;
  }
}

/// Whether `got` is within `ulps` spacings of `want` in `dtype`, and `subnormals` times the smallest subnormal number;
/// NaN and infinities must agree.
inline bool is_near(DType dtype, double got, long double want, double ulps, double subnormals = 0.0) {
  if (std::isnan(want)) {
    return std::isnan(got);
  }
  const auto target = rounded(dtype, static_cast<double>(want));
  if (got == target) {
    return true;
  }
  const double limit = ulps * spacing(dtype, target) + subnormals * spacing(dtype, 0.0);
  return std::isfinite(target) && std::isfinite(got) &&
         std::fabs(static_cast<long double>(got) - want) <= static_cast<long double>(limit);
}

/// Numbers that formulas trip over, then a spread of ordinary ones.
inline std::vector<double> telling_numbers() {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  std::vector<double> numbers = {0.0,  -0.0, 1.0,    -1.0,  kInfinity, -kInfinity, std::nan(""), 1e-40, -1e-40, 1e-310,
                                 0.5,  -0.5, 1.5,    2.5,   -2.5,      1e-10,      -1e-10,       1e10,  -1e10,  1e30,
                                 88.5, -90,  -100.0, 100.0, 709.5,     -740.0,     -1000.0,      127.9, -140.0, 3e38};
  for (int i = 0; i < 300; ++i) {
    numbers.push_back(8.0 * std::sin(0.7 * i + 0.1 * i * i));
  }
  return numbers;
}

inline constexpr DType kFloats[] = {DType::f32, DType::f64, DType::bf16, DType::f16};

}  // namespace deltatape::test
