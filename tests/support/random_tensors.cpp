#include "tests/support/random_tensors.h"

#include <cmath>

namespace deltatape::test {

Array random_array(const Shape& shape, uint64_t seed, double low, double high) {
  std::mt19937_64 source(seed);
  return build(shape, [&](const Shape&) { return low + (high - low) * uniform(source); });
}

Tensor random_tensor(const Shape& shape, uint64_t seed, DType dtype, double low, double high) {
  return to_tensor(random_array(shape, seed, low, high), dtype);
}

Tensor random_indices(const Shape& shape, uint64_t seed, int64_t bound, DType dtype) {
  const Array values = random_array(shape, seed, 0.0, static_cast<double>(bound));
  return to_tensor(map(values, [](double value) { return std::floor(value); }), dtype);
}

}  // namespace deltatape::test
