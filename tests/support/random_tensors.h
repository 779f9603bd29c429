// Seeded test data. It has its own random numbers, so that a fault in the library's cannot hide one elsewhere, and the
// same seed gives the same tensor everywhere.
#pragma once

#include <cstdint>
#include <random>

#include "core/tensor.h"
#include "tests/support/reference.h"

namespace deltatape::test {

/// Uniform in [0, 1) with 53 bits.
inline double uniform(std::mt19937_64& source) { return static_cast<double>(source() >> 11) * 0x1p-53; }

/// Uniform in [low, high). The default range has both signs.
Array random_array(const Shape& shape, uint64_t seed, double low = -1.0, double high = 1.0);
/// The same as a tensor, rounded to `dtype`.
Tensor random_tensor(const Shape& shape, uint64_t seed, DType dtype = DType::f64, double low = -1.0, double high = 1.0);
/// Integers in [0, bound).
Tensor random_indices(const Shape& shape, uint64_t seed, int64_t bound, DType dtype = DType::i64);

}  // namespace deltatape::test
