#include "ops/checks.h"

namespace deltatape::detail {

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

}  // namespace deltatape::detail
