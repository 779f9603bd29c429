// The formula of every elementwise function, once for all backends. A formula is a function of plain values (float,
// double, int64_t) or of any type that brings the functions used here, such as a SIMD register: these are found by
// argument-dependent lookup. To add a function: an entry in elementwise_kinds.h and a specialisation here.
//
// Everything is a constexpr template, so that nvcc (--expt-relaxed-constexpr) compiles it for the GPU as it stands.
#pragma once

#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "backends/elementwise_kinds.h"

namespace deltatape::elementwise {

// The functions that formulas are made of, for plain values.

template <class T>
concept Number = std::is_arithmetic_v<T>;

template <Number T>
constexpr T select(bool condition, T a, T b) {
  return condition ? a : b;
}
template <Number T>
constexpr T abs(T x) {
  return std::abs(x);
}
template <std::floating_point T>
constexpr T sqrt(T x) {
  return std::sqrt(x);
}
template <std::floating_point T>
constexpr T exp(T x) {
  return std::exp(x);
}
template <std::floating_point T>
constexpr T exp2(T x) {
  return std::exp2(x);
}
template <std::floating_point T>
constexpr T expm1(T x) {
  return std::expm1(x);
}
template <std::floating_point T>
constexpr T log(T x) {
  return std::log(x);
}
template <std::floating_point T>
constexpr T log2(T x) {
  return std::log2(x);
}
template <std::floating_point T>
constexpr T log1p(T x) {
  return std::log1p(x);
}
/// For x in [0, 1], where other types have something quicker.
template <std::floating_point T>
constexpr T log1p_of_fraction(T x) {
  return std::log1p(x);
}
template <std::floating_point T>
constexpr T sin(T x) {
  return std::sin(x);
}
template <std::floating_point T>
constexpr T cos(T x) {
  return std::cos(x);
}
template <std::floating_point T>
constexpr T tanh(T x) {
  return std::tanh(x);
}
template <std::floating_point T>
constexpr T erf(T x) {
  return std::erf(x);
}
template <std::floating_point T>
constexpr T erfc(T x) {
  return std::erfc(x);
}
template <std::floating_point T>
constexpr T floor(T x) {
  return std::floor(x);
}
template <std::floating_point T>
constexpr T ceil(T x) {
  return std::ceil(x);
}
/// Halves to even, as the default rounding mode has it.
template <std::floating_point T>
constexpr T round_to_even(T x) {
  return std::nearbyint(x);
}
template <std::floating_point T>
constexpr T pow(T x, T y) {
  return std::pow(x, y);
}
/// Integer power by squaring; a negative exponent gives the truncated quotient 1 / x^-y (0 for x = 0).
template <std::integral T>
constexpr T pow(T x, T y) {
  if (y < 0) {
    return x == 1 ? T{1} : x == -1 ? (y % 2 == 0 ? T{1} : T{-1}) : T{0};
  }
  T result = 1;
  for (; y > 0; y /= 2) {
    result = y % 2 == 0 ? result : result * x;
    x = y > 1 ? x * x : x;
  }
  return result;
}

// Parts shared by several formulas.

template <class V>
constexpr V sigmoid(V x) {
  const V e = exp(-abs(x));  // in [0, 1]: nothing overflows
  return select(x < V(0.0), e, V(1.0)) / (V(1.0) + e);
}
template <class V>
constexpr V softplus(V x) {
  return select(x > V(0.0), x, V(0.0)) + log1p_of_fraction(exp(-abs(x)));
}
/// The normal distribution function; erfc keeps its digits in the lower tail, where 1 + erf loses them.
template <class V>
constexpr V normal_cdf(V x) {
  return V(0.5) * erfc(x * V(-0.70710678118654752440));
}
template <class V>
constexpr V normal_pdf(V x) {
  return V(0.39894228040143267794) * exp(V(-0.5) * x * x);
}

/// Base of the functions that are defined for integers too.
struct TakesIntegers {};

// Functions of one value.

template <UnaryKind kind>
struct Unary;

template <>
struct Unary<UnaryKind::neg> : TakesIntegers {
  template <class V>
  constexpr V operator()(V x) const {
    return -x;
  }
};
template <>
struct Unary<UnaryKind::abs> : TakesIntegers {
  template <class V>
  constexpr V operator()(V x) const {
    return abs(x);
  }
};
template <>
struct Unary<UnaryKind::sign> : TakesIntegers {
  template <class V>
  constexpr V operator()(V x) const {
    return select(x > V(0), V(1), select(x < V(0), V(-1), x));  // 0 and NaN stay
  }
};
template <>
struct Unary<UnaryKind::square> : TakesIntegers {
  template <class V>
  constexpr V operator()(V x) const {
    return x * x;
  }
};
template <>
struct Unary<UnaryKind::sqrt> {
  template <class V>
  constexpr V operator()(V x) const {
    return sqrt(x);
  }
};
template <>
struct Unary<UnaryKind::rsqrt> {
  template <class V>
  constexpr V operator()(V x) const {
    return V(1.0) / sqrt(x);
  }
};
template <>
struct Unary<UnaryKind::reciprocal> {
  template <class V>
  constexpr V operator()(V x) const {
    return V(1.0) / x;
  }
};
template <>
struct Unary<UnaryKind::exp> {
  template <class V>
  constexpr V operator()(V x) const {
    return exp(x);
  }
};
template <>
struct Unary<UnaryKind::exp2> {
  template <class V>
  constexpr V operator()(V x) const {
    return exp2(x);
  }
};
template <>
struct Unary<UnaryKind::expm1> {
  template <class V>
  constexpr V operator()(V x) const {
    return expm1(x);
  }
};
template <>
struct Unary<UnaryKind::log> {
  template <class V>
  constexpr V operator()(V x) const {
    return log(x);
  }
};
template <>
struct Unary<UnaryKind::log2> {
  template <class V>
  constexpr V operator()(V x) const {
    return log2(x);
  }
};
template <>
struct Unary<UnaryKind::log1p> {
  template <class V>
  constexpr V operator()(V x) const {
    return log1p(x);
  }
};
template <>
struct Unary<UnaryKind::sin> {
  template <class V>
  constexpr V operator()(V x) const {
    return sin(x);
  }
};
template <>
struct Unary<UnaryKind::cos> {
  template <class V>
  constexpr V operator()(V x) const {
    return cos(x);
  }
};
template <>
struct Unary<UnaryKind::tanh> {
  template <class V>
  constexpr V operator()(V x) const {
    return tanh(x);
  }
};
template <>
struct Unary<UnaryKind::erf> {
  template <class V>
  constexpr V operator()(V x) const {
    return erf(x);
  }
};
template <>
struct Unary<UnaryKind::sigmoid> {
  template <class V>
  constexpr V operator()(V x) const {
    return sigmoid(x);
  }
};
template <>
struct Unary<UnaryKind::log_sigmoid> {
  template <class V>
  constexpr V operator()(V x) const {
    return -softplus(-x);
  }
};
template <>
struct Unary<UnaryKind::softplus> {
  template <class V>
  constexpr V operator()(V x) const {
    return softplus(x);
  }
};
template <>
struct Unary<UnaryKind::silu> {
  template <class V>
  constexpr V operator()(V x) const {
    return x * sigmoid(x);
  }
};
template <>
struct Unary<UnaryKind::gelu> {
  template <class V>
  constexpr V operator()(V x) const {
    return x * normal_cdf(x);
  }
};
template <>
struct Unary<UnaryKind::relu> : TakesIntegers {
  template <class V>
  constexpr V operator()(V x) const {
    return select(x <= V(0), V(0), x);  // NaN stays
  }
};
template <>
struct Unary<UnaryKind::floor> {
  template <class V>
  constexpr V operator()(V x) const {
    return floor(x);
  }
};
template <>
struct Unary<UnaryKind::ceil> {
  template <class V>
  constexpr V operator()(V x) const {
    return ceil(x);
  }
};
template <>
struct Unary<UnaryKind::round> {
  template <class V>
  constexpr V operator()(V x) const {
    return round_to_even(x);
  }
};
template <>
struct Unary<UnaryKind::logical_not> : TakesIntegers {
  template <class V>
  constexpr V operator()(V x) const {
    return select(x == V(0), V(1), V(0));
  }
};

// Functions of two values.

template <BinaryKind kind>
struct Binary;

template <>
struct Binary<BinaryKind::add> : TakesIntegers {
  template <class V>
  constexpr V operator()(V a, V b) const {
    return a + b;
  }
};
template <>
struct Binary<BinaryKind::sub> : TakesIntegers {
  template <class V>
  constexpr V operator()(V a, V b) const {
    return a - b;
  }
};
template <>
struct Binary<BinaryKind::mul> : TakesIntegers {
  template <class V>
  constexpr V operator()(V a, V b) const {
    return a * b;
  }
};
template <>
struct Binary<BinaryKind::div> {
  template <class V>
  constexpr V operator()(V a, V b) const {
    return a / b;
  }
};
template <>
struct Binary<BinaryKind::pow> : TakesIntegers {
  template <class V>
  constexpr V operator()(V a, V b) const {
    return pow(a, b);
  }
};
template <>
struct Binary<BinaryKind::maximum> : TakesIntegers {
  template <class V>
  constexpr V operator()(V a, V b) const {
    return select(a != a, a, select(a > b, a, b));  // NaN in b: a > b is false
  }
};
template <>
struct Binary<BinaryKind::minimum> : TakesIntegers {
  template <class V>
  constexpr V operator()(V a, V b) const {
    return select(a != a, a, select(a < b, a, b));
  }
};
template <>
struct Binary<BinaryKind::sigmoid_backward> {
  template <class V>
  constexpr V operator()(V y, V dy) const {
    return dy * (y * (V(1.0) - y));
  }
};
template <>
struct Binary<BinaryKind::tanh_backward> {
  template <class V>
  constexpr V operator()(V y, V dy) const {
    return dy * ((V(1.0) - y) * (V(1.0) + y));
  }
};
template <>
struct Binary<BinaryKind::silu_backward> {
  template <class V>
  constexpr V operator()(V x, V dy) const {
    const V s = sigmoid(x);
    return dy * (s * (V(1.0) + x * (V(1.0) - s)));
  }
};
template <>
struct Binary<BinaryKind::gelu_backward> {
  template <class V>
  constexpr V operator()(V x, V dy) const {
    return dy * (normal_cdf(x) + x * normal_pdf(x));
  }
};
template <>
struct Binary<BinaryKind::softplus_backward> {
  template <class V>
  constexpr V operator()(V x, V dy) const {
    return dy * sigmoid(x);
  }
};

// Comparisons.

template <CompareKind kind>
struct Compare;

template <>
struct Compare<CompareKind::eq> {
  template <class V>
  constexpr auto operator()(V a, V b) const {
    return a == b;
  }
};
template <>
struct Compare<CompareKind::ne> {
  template <class V>
  constexpr auto operator()(V a, V b) const {
    return a != b;
  }
};
template <>
struct Compare<CompareKind::lt> {
  template <class V>
  constexpr auto operator()(V a, V b) const {
    return a < b;
  }
};
template <>
struct Compare<CompareKind::le> {
  template <class V>
  constexpr auto operator()(V a, V b) const {
    return a <= b;
  }
};
template <>
struct Compare<CompareKind::gt> {
  template <class V>
  constexpr auto operator()(V a, V b) const {
    return a > b;
  }
};
template <>
struct Compare<CompareKind::ge> {
  template <class V>
  constexpr auto operator()(V a, V b) const {
    return a >= b;
  }
};

// From a kind at run time to its function.

namespace detail {
template <class F>
concept Defined = requires {
  sizeof(F);
};
template <class Make, size_t... indices>
constexpr auto table(Make make, std::index_sequence<indices...> /*kinds*/) {
  return std::array{make(std::integral_constant<size_t, indices>{})...};
}
}  // namespace detail

inline constexpr size_t kUnaryKinds = static_cast<size_t>(UnaryKind::logical_not) + 1;
inline constexpr size_t kBinaryKinds = static_cast<size_t>(BinaryKind::softplus_backward) + 1;
inline constexpr size_t kCompareKinds = static_cast<size_t>(CompareKind::ge) + 1;
static_assert(!detail::Defined<Unary<static_cast<UnaryKind>(kUnaryKinds)>> &&
                  !detail::Defined<Binary<static_cast<BinaryKind>(kBinaryKinds)>> &&
                  !detail::Defined<Compare<static_cast<CompareKind>(kCompareKinds)>>,
              "the counts above name the last kind of each list");

/// An array with make(Unary<kind>{}) at index `kind`: a table of kernels when `make` returns function pointers.
template <class Make>
constexpr auto unary_table(Make make) {
  return detail::table([make](auto index) { return make(Unary<static_cast<UnaryKind>(index())>{}); },
                       std::make_index_sequence<kUnaryKinds>{});
}
/// The same for functions of two values.
template <class Make>
constexpr auto binary_table(Make make) {
  return detail::table([make](auto index) { return make(Binary<static_cast<BinaryKind>(index())>{}); },
                       std::make_index_sequence<kBinaryKinds>{});
}
/// The same for comparisons.
template <class Make>
constexpr auto compare_table(Make make) {
  return detail::table([make](auto index) { return make(Compare<static_cast<CompareKind>(index())>{}); },
                       std::make_index_sequence<kCompareKinds>{});
}

}  // namespace deltatape::elementwise
