#include "ops/creation.h"

#include <algorithm>
#include <cmath>

#include "backends/backend.h"
#include "core/dtype_limits.h"
#include "ops/checks.h"

namespace deltatape {
namespace {

Tensor filled(const Shape& shape, double value, TensorOptions options) {
  Tensor out = empty(shape, options);
  backend_of(out).fill(value, out);
  return out;
}

}  // namespace

Tensor zeros(const Shape& shape, TensorOptions options) { return filled(shape, 0.0, options); }
Tensor ones(const Shape& shape, TensorOptions options) { return filled(shape, 1.0, options); }

Tensor full(const Shape& shape, double value, TensorOptions options) {
  check_representable("full", "value", value, options.dtype);
  return filled(shape, value, options);
}

Tensor zeros_like(const Tensor& like) {
  check_defined("zeros_like", "like", like);
  return filled(like.shape(), 0.0, like.options());
}

Tensor ones_like(const Tensor& like) {
  check_defined("ones_like", "like", like);
  return filled(like.shape(), 1.0, like.options());
}

Tensor scalar(double value, TensorOptions options) {
  check_representable("scalar", "value", value, options.dtype);
  return filled({}, value, options);
}

Tensor arange(double start, double stop, double step, TensorOptions options) {
  check(options.dtype != DType::boolean, "arange", "dtype is bool, expected a floating-point or integer dtype");
  check(std::isfinite(start) && std::isfinite(stop), "arange", "the range is {} to {}, expected finite bounds", start,
        stop);
  check(step != 0 && std::isfinite(step) && (stop - start) * step >= 0, "arange",
        "step is {}, expected a number that leads from {} to {}", step, start, stop);
  check_representable("arange", "start", start, options.dtype);
  check_representable("arange", "step", step, options.dtype);
  const double count = std::ceil((stop - start) / step);
  check(count < 0x1p53, "arange", "the range {} to {} has {} elements, expected fewer than 2^53", start, stop, count);
  if (count > 0) {
    const double last = start + (count - 1) * step;
    check_representable("arange", "the last element", last, options.dtype);
    check(std::max(std::abs(start), std::abs(last)) <= largest_number(options.dtype), "arange",
          "the range {} to {} leaves the range of {}", start, last, options.dtype);
  }
  Tensor out = empty({static_cast<int64_t>(count)}, options);
  backend_of(out).arange(start, step, out);
  return out;
}

Tensor arange(int64_t count, TensorOptions options) {
  check(count >= 0, "arange", "count is {}, expected 0 or more", count);
  return arange(0.0, static_cast<double>(count), 1.0, options);
}

Tensor eye(int64_t n, TensorOptions options) {
  check(n >= 0, "eye", "n is {}, expected 0 or more", n);
  Tensor out = zeros({n, n}, options);
  backend_of(out).fill(1.0, out.as_view({n}, {n + 1}, 0));
  return out;
}

}  // namespace deltatape
