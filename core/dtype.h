// Element types, the two 16-bit floating-point value types, and type promotion.
#pragma once

#include <fmt/core.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <ostream>
#include <string_view>
#include <type_traits>

namespace deltatape {

enum class DType : uint8_t { f32, f64, bf16, f16, i64, i32, boolean };

/// bfloat16: the upper half of a float. Conversion rounds to nearest even; NaN stays NaN.
struct BFloat16 {
  uint16_t bits = 0;
  BFloat16() = default;
  explicit BFloat16(float value) : bits(round_bits(value)) {}
  explicit operator float() const { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }
  static uint16_t round_bits(float value) {
    const auto word = std::bit_cast<uint32_t>(value);
    if ((word & 0x7fffffffU) > 0x7f800000U) {
      return static_cast<uint16_t>((word >> 16) | 0x0040U);
    }
    return static_cast<uint16_t>((word + 0x7fffU + ((word >> 16) & 1U)) >> 16);
  }
};

/// IEEE binary16. Conversion rounds to nearest even; values beyond 65504 (after rounding) become infinite.
struct Float16 {
  uint16_t bits = 0;
  Float16() = default;
  explicit Float16(float value) : bits(round_bits(value)) {}
  explicit operator float() const { return widen(bits); }
  static uint16_t round_bits(float value);
  static float widen(uint16_t bits);
};

/// The DType of a C++ element type.
template <class T>
struct dtype_of_type;
template <>
struct dtype_of_type<float> : std::integral_constant<DType, DType::f32> {};
template <>
struct dtype_of_type<double> : std::integral_constant<DType, DType::f64> {};
template <>
struct dtype_of_type<BFloat16> : std::integral_constant<DType, DType::bf16> {};
template <>
struct dtype_of_type<Float16> : std::integral_constant<DType, DType::f16> {};
template <>
struct dtype_of_type<int64_t> : std::integral_constant<DType, DType::i64> {};
template <>
struct dtype_of_type<int32_t> : std::integral_constant<DType, DType::i32> {};
template <>
struct dtype_of_type<bool> : std::integral_constant<DType, DType::boolean> {};
template <class T>
inline constexpr DType dtype_of = dtype_of_type<T>::value;

/// Bytes of one element.
constexpr size_t size_of(DType dtype) {
  switch (dtype) {
    case DType::f64:
    case DType::i64:
      return 8;
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::bf16:
    case DType::f16:
      return 2;
    case DType::boolean:
      return 1;
  }
  return 0;
}

constexpr bool is_floating(DType dtype) {
  return dtype == DType::f32 || dtype == DType::f64 || dtype == DType::bf16 || dtype == DType::f16;
}
constexpr bool is_integer(DType dtype) { return dtype == DType::i64 || dtype == DType::i32; }

/// `f32`, `f64`, `bf16`, `f16`, `i64`, `i32`, `bool`.
std::string_view to_string(DType dtype);
/// Inverse of to_string. Throws Error naming `function`.
DType parse_dtype(std::string_view function, std::string_view name);
std::ostream& operator<<(std::ostream& out, DType dtype);

/// The type that an operation on `a` and `b` computes in: PyTorch's table for two tensors of rank > 0.
/// bool < i32 < i64 < (bf16, f16) < f32 < f64; bf16 with f16 gives f32.
DType promote(DType a, DType b);

/// Calls `f` with a value of the C++ type of `dtype` (a tag; the value means nothing).
template <class F>
decltype(auto) visit_dtype(DType dtype, F&& f) {
  switch (dtype) {
    case DType::f32:
      return f(float{});
    case DType::f64:
      return f(double{});
    case DType::bf16:
      return f(BFloat16{});
    case DType::f16:
      return f(Float16{});
    case DType::i64:
      return f(int64_t{});
    case DType::i32:
      return f(int32_t{});
    case DType::boolean:
      break;
  }
  return f(bool{});
}

/// Calls `f` with a value of the C++ type of a floating-point dtype.
template <class F>
void visit_floating(DType dtype, F&& f) {
  switch (dtype) {
    case DType::f32:
      return f(float{});
    case DType::f64:
      return f(double{});
    case DType::bf16:
      return f(BFloat16{});
    default:
      return f(Float16{});
  }
}

/// Calls `f` with an unsigned integer as wide as an element: what only moves elements needs no more of their type.
template <class F>
void visit_element_size(DType dtype, F&& f) {
  switch (size_of(dtype)) {
    case 1:
      return f(uint8_t{});
    case 2:
      return f(uint16_t{});
    case 4:
      return f(uint32_t{});
    default:
      return f(uint64_t{});
  }
}

}  // namespace deltatape

template <>
struct fmt::formatter<deltatape::DType> {
  static constexpr auto parse(fmt::format_parse_context& context) { return context.begin(); }
  template <class Context>
  auto format(deltatape::DType dtype, Context& context) const {
    const auto text = deltatape::to_string(dtype);
    return std::copy(text.begin(), text.end(), context.out());
  }
};
