#include "ops/checks.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace deltatape {
namespace detail {

void fail_undefined(std::string_view function, std::string_view argument) {
  fail(function, "{} is undefined, expected a tensor", argument);
}

void fail_device(std::string_view function, std::string_view argument, const Tensor& x, Device expected) {
  fail(function, "{} is on {}, expected {}", argument, x.device(), expected);
}

void fail_dtype(std::string_view function, std::string_view argument, const Tensor& x, std::string_view expected) {
  fail(function, "{} has dtype {}, expected {}", argument, x.dtype(), expected);
}

void fail_rank(std::string_view function, std::string_view argument, const Tensor& x, int rank,
               std::string_view names) {
  fail(function, "{} has shape {}, expected rank {}{}{}", argument, x.shape(), rank, names.empty() ? "" : ", ", names);
}

void fail_rank_below(std::string_view function, std::string_view argument, const Tensor& x, int rank,
                     std::string_view names) {
  fail(function, "{} has shape {}, expected rank {} or more{}{}", argument, x.shape(), rank, names.empty() ? "" : ", ",
       names);
}

void fail_shape(std::string_view function, std::string_view argument, const Tensor& x, const Shape& expected,
                std::string_view names) {
  fail(function, "{} has shape {}, expected {}{}{}", argument, x.shape(), names, names.empty() ? "" : " = ", expected);
}

void fail_broadcast(std::string_view function, std::string_view argument, const Tensor& x, const Shape& shape,
                    std::string_view relation) {
  fail(function, "{} has shape {}, expected a shape that broadcasts {} {}", argument, x.shape(), relation, shape);
}

}  // namespace detail

bool broadcasts_to(const Shape& from, const Shape& to) {
  const int lead = to.rank() - from.rank();
  if (lead < 0) {
    return false;
  }
  for (int d = 0; d < from.rank(); ++d) {
    if (from[d] != to[d + lead] && from[d] != 1) {
      return false;
    }
  }
  return true;
}

void check_broadcasts_with(std::string_view function, std::string_view argument, const Tensor& x, const Shape& shape) {
  const Shape& own = x.shape();
  for (int d = 1; d <= std::min(own.rank(), shape.rank()); ++d) {
    const int64_t a = own[own.rank() - d];
    const int64_t b = shape[shape.rank() - d];
    if (a != b && a != 1 && b != 1) {
      detail::fail_broadcast(function, argument, x, shape, "with");
    }
  }
}

bool is_whole(double value) {
  return std::trunc(value) == value && value >= -0x1p63 && value < 0x1p63;  // false for NaN
}

void check_representable(std::string_view function, std::string_view argument, double value, DType dtype) {
  if (!is_integer(dtype)) {
    return;
  }
  const bool fits = is_whole(value) && (dtype == DType::i64 || (value >= std::numeric_limits<int32_t>::min() &&
                                                                value <= std::numeric_limits<int32_t>::max()));
  check(fits, function, "{} is {}, expected a whole number that {} holds", argument, value, dtype);
}

}  // namespace deltatape
