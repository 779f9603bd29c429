#include "ops/checks.h"

#include <algorithm>
#include <cmath>

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

bool holds(DType dtype, double value) {
  const bool whole = std::trunc(value) == value;  // false for NaN
  switch (dtype) {
    case DType::i64:
      return whole && value >= -0x1p63 && value < 0x1p63;
    case DType::i32:
      return whole && value >= -0x1p31 && value < 0x1p31;
    case DType::boolean:
      return value == 0 || value == 1;
    default:
      return true;
  }
}

void check_representable(std::string_view function, std::string_view argument, double value, DType dtype) {
  check(dtype == DType::boolean || holds(dtype, value), function, "{} is {}, expected a whole number that {} holds",
        argument, value, dtype);
}

}  // namespace deltatape
