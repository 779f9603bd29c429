#include "ops/random.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "autograd/record.h"
#include "backends/backend.h"
#include "ops/arithmetic.h"
#include "ops/comparison.h"
#include "ops/convert.h"

namespace deltatape {
namespace {

void check_floating(std::string_view function, DType dtype) {
  check(is_floating(dtype), function, "dtype is {}, expected floating point", dtype);
}

// Reserves one element of the stream per element of a tensor.
PhiloxState draw(Generator& generator, int64_t count) { return generator.advance(static_cast<uint64_t>(count)); }

}  // namespace

Tensor rand(const Shape& shape, Generator& generator, TensorOptions options) {
  check_floating("rand", options.dtype);
  Tensor out = empty(shape, options);
  backend_of(out).uniform(draw(generator, out.numel()), out);
  return out;
}

Tensor randn(const Shape& shape, Generator& generator, TensorOptions options) {
  check_floating("randn", options.dtype);
  Tensor out = empty(shape, options);
  backend_of(out).normal(draw(generator, out.numel()), out);
  return out;
}

Tensor randint(int64_t low, int64_t high, const Shape& shape, Generator& generator, TensorOptions options) {
  check(is_integer(options.dtype), "randint", "dtype is {}, expected i64 or i32", options.dtype);
  check(low < high, "randint", "low is {} and high is {}, expected low < high", low, high);
  if (options.dtype == DType::i32) {
    constexpr int64_t kEnd = int64_t{1} << 31;
    check(low >= -kEnd && high <= kEnd, "randint", "the range is [{}, {}), expected one that i32 holds", low, high);
  }
  Tensor out = empty(shape, options);
  backend_of(out).random_integers(draw(generator, out.numel()), low, high, out);
  return out;
}

Tensor dropout(const Tensor& x, double p, Generator& generator) {
  check(x.defined(), "dropout", "x is undefined");
  check_floating("dropout", x.dtype());
  check(p >= 0.0 && p < 1.0, "dropout", "p is {}, expected 0 <= p < 1", p);
  if (p == 0.0) {
    return x;
  }
  // Uniform numbers in f32 whatever x's dtype, so that the same seed keeps the same elements; 16-bit types are scaled
  // in f32, where 1 / (1 - p) is exact enough.
  const DType dtype = promote(x.dtype(), DType::f32);
  Tensor factor;  // 0 or 1 / (1 - p)
  {
    const NoGradGuard guard;
    const Tensor kept = ge(rand(x.shape(), generator, {DType::f32, x.device()}), p);
    factor = mul(to(kept, dtype), 1.0 / (1.0 - p));
  }
  return to(mul(x, factor), x.dtype());
}

Tensor multinomial(const Tensor& weights, int64_t count, Generator& generator) {
  check(weights.defined(), "multinomial", "weights is undefined");
  check(is_floating(weights.dtype()), "multinomial", "weights has dtype {}, expected floating point", weights.dtype());
  check(weights.rank() >= 1, "multinomial", "weights has shape {}, expected rank 1 or more", weights.shape());
  check(count >= 0, "multinomial", "count is {}, expected 0 or more", count);
  const int64_t choices = weights.shape().back();
  Shape lead = weights.shape();
  lead.erase(lead.rank() - 1);
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max() / static_cast<int64_t>(sizeof(int64_t));
  check(count <= kMost / std::max<int64_t>(lead.numel(), 1), "multinomial",
        "count is {} for weights of shape {}, expected a result that fits in memory", count, weights.shape());
  Shape shape = weights.shape();
  shape[shape.rank() - 1] = count;
  const int64_t rows = choices == 0 ? 0 : weights.numel() / choices;
  check(choices > 0 || shape.numel() == 0, "multinomial", "weights has shape {}, expected at least one choice",
        weights.shape());

  std::vector<double> sums = to(weights.detach(), Device::cpu()).to_vector<double>();  // cumulative within each row
  for (int64_t row = 0; row < rows; ++row) {
    double sum = 0;
    for (int64_t i = 0; i < choices; ++i) {
      double& place = sums[static_cast<size_t>(row * choices + i)];
      check(place >= 0 && std::isfinite(place), "multinomial",
            "weights is {} at row {}, column {}, expected a finite number of 0 or more", place, row, i);
      sum += place;
      place = sum;
    }
    check(std::isfinite(sum), "multinomial", "weights has sum {} in row {}, expected a finite sum", sum, row);
    check(sum > 0, "multinomial", "weights has sum {} in row {}, expected more than 0", sum, row);
  }

  std::vector<int64_t> drawn;
  drawn.reserve(static_cast<size_t>(shape.numel()));
  for (int64_t row = 0; row < rows; ++row) {
    const auto first = sums.begin() + row * choices;
    const auto last = first + choices;
    for (int64_t i = 0; i < count; ++i) {
      // The first cumulative sum above a number in [0, sum): never a choice of weight 0.
      const double target = generator.next_uniform() * *(last - 1);
      const auto place = std::upper_bound(first, last, target);
      drawn.push_back(std::min(place, std::lower_bound(first, last, *(last - 1))) - first);
    }
  }
  return to(from_vector(drawn, shape), weights.device());
}

}  // namespace deltatape
