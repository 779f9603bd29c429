// Checks of tensor arguments that many ops share, so that their sentences are alike. Each throws Error that names
// `function` and `argument`, and what came beside what was expected; the way where all is well is inline and cheap.
#pragma once

#include <string_view>

#include "core/tensor.h"

namespace deltatape {

namespace detail {

[[noreturn]] void fail_undefined(std::string_view function, std::string_view argument);
[[noreturn]] void fail_device(std::string_view function, std::string_view argument, const Tensor& x, Device expected);
[[noreturn]] void fail_dtype(std::string_view function, std::string_view argument, const Tensor& x,
                             std::string_view expected);
[[noreturn]] void fail_rank(std::string_view function, std::string_view argument, const Tensor& x, int rank,
                            std::string_view names);
[[noreturn]] void fail_rank_below(std::string_view function, std::string_view argument, const Tensor& x, int rank,
                                  std::string_view names);
[[noreturn]] void fail_broadcast(std::string_view function, std::string_view argument, const Tensor& x,
                                 const Shape& shape, std::string_view relation);
[[noreturn]] void fail_shape(std::string_view function, std::string_view argument, const Tensor& x,
                             const Shape& expected, std::string_view names);

}  // namespace detail

/// `mul: a is undefined, expected a tensor`
inline void check_defined(std::string_view function, std::string_view argument, const Tensor& x) {
  if (!x.defined()) [[unlikely]] {
    detail::fail_undefined(function, argument);
  }
}

/// `mul: b is on cuda:0, expected cpu`
inline void check_device(std::string_view function, std::string_view argument, const Tensor& x, Device expected) {
  if (!(x.device() == expected)) [[unlikely]] {
    detail::fail_device(function, argument, x, expected);
  }
}
/// As check_device, with the device of `like`.
inline void check_same_device(std::string_view function, std::string_view argument, const Tensor& x,
                              const Tensor& like) {
  check_device(function, argument, x, like.device());
}

/// `where: condition has dtype f32, expected bool`
inline void check_dtype(std::string_view function, std::string_view argument, const Tensor& x, DType expected) {
  if (x.dtype() != expected) [[unlikely]] {
    detail::fail_dtype(function, argument, x, to_string(expected));
  }
}
/// As check_dtype, with the dtype of `like`.
inline void check_same_dtype(std::string_view function, std::string_view argument, const Tensor& x,
                             const Tensor& like) {
  check_dtype(function, argument, x, like.dtype());
}
/// `exp: x has dtype i64, expected a floating-point dtype`
inline void check_floating(std::string_view function, std::string_view argument, const Tensor& x) {
  if (!is_floating(x.dtype())) [[unlikely]] {
    detail::fail_dtype(function, argument, x, "a floating-point dtype");
  }
}
/// `abs: x has dtype bool, expected a floating-point or integer dtype`
inline void check_number(std::string_view function, std::string_view argument, const Tensor& x) {
  if (x.dtype() == DType::boolean) [[unlikely]] {
    detail::fail_dtype(function, argument, x, "a floating-point or integer dtype");
  }
}
/// `gather: index has dtype f32, expected i64 or i32`
inline void check_index(std::string_view function, std::string_view argument, const Tensor& x) {
  if (!is_integer(x.dtype())) [[unlikely]] {
    detail::fail_dtype(function, argument, x, "i64 or i32");
  }
}

/// `causal_conv1d: x has shape [3, 4], expected rank 3, [B, T, D]`; `names` are the dimensions' names, or empty.
inline void check_rank(std::string_view function, std::string_view argument, const Tensor& x, int rank,
                       std::string_view names = {}) {
  if (x.rank() != rank) [[unlikely]] {
    detail::fail_rank(function, argument, x, rank, names);
  }
}
/// `tril: x has shape [3], expected rank 2 or more, [.., M, N]`
inline void check_rank_at_least(std::string_view function, std::string_view argument, const Tensor& x, int rank,
                                std::string_view names = {}) {
  if (x.rank() < rank) [[unlikely]] {
    detail::fail_rank_below(function, argument, x, rank, names);
  }
}
/// `kda::fused_chunk: g has shape [2, 64, 4, 32], expected [B, T, HV, K] = [2, 64, 4, 64]`; `names` as for check_rank.
inline void check_shape(std::string_view function, std::string_view argument, const Tensor& x, const Shape& expected,
                        std::string_view names = {}) {
  if (!(x.shape() == expected)) [[unlikely]] {
    detail::fail_shape(function, argument, x, expected, names);
  }
}

/// Whether NumPy's rule stretches `from` to exactly `to`.
bool broadcasts_to(const Shape& from, const Shape& to);
/// `masked_fill: mask has shape [3], expected a shape that broadcasts to [2, 4]`
inline void check_broadcasts_to(std::string_view function, std::string_view argument, const Tensor& x,
                                const Shape& shape) {
  if (!(x.shape() == shape) && !broadcasts_to(x.shape(), shape)) [[unlikely]] {
    detail::fail_broadcast(function, argument, x, shape, "to");
  }
}
/// `where: condition has shape [3], expected a shape that broadcasts with [2, 4]`
void check_broadcasts_with(std::string_view function, std::string_view argument, const Tensor& x, const Shape& shape);

/// Whether `dtype` holds `value` up to rounding: a whole number in its range for integers, 0 or 1 for bool.
bool holds(DType dtype, double value);
/// `full: value is 0.5, expected a whole number that i32 holds`. Floating-point dtypes and bool take every value.
void check_representable(std::string_view function, std::string_view argument, double value, DType dtype);

}  // namespace deltatape
