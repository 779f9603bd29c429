#include "ops/index_range.h"

#include <vector>

#include "core/device_memory.h"
#include "ops/convert.h"

namespace deltatape {
namespace {

// The position of an element of a tensor of this shape from its place in row-major order.
Shape position_of(int64_t place, const Shape& shape) {
  Shape position = Shape::filled(shape.rank(), 0);
  for (int d = shape.rank() - 1; d >= 0; --d) {
    position[d] = place % shape[d];
    place /= shape[d];
  }
  return position;
}

}  // namespace

int64_t check_index_range(std::string_view function, std::string_view argument, const Tensor& index, int64_t bound,
                          std::optional<int64_t> ignored) {
  if (is_recording(index.device())) {
    return -1;
  }
  const std::vector<int64_t> values = to(index, Device::cpu()).to_vector<int64_t>();
  int64_t counted = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    if (ignored.has_value() && values[i] == *ignored) {
      continue;
    }
    if (values[i] < 0 || values[i] >= bound) {
      const Shape position = position_of(static_cast<int64_t>(i), index.shape());
      check(!ignored.has_value(), function, "{} is {} at {}, expected 0 <= index < {} or ignore_index = {}", argument,
            values[i], position, bound, ignored.value_or(0));
      fail(function, "{} is {} at {}, expected 0 <= index < {}", argument, values[i], position, bound);
    }
    ++counted;
  }
  return counted;
}

}  // namespace deltatape
