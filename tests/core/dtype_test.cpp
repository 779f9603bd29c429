#include "core/dtype.h"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <limits>
#include <sstream>
#include <vector>

#include "core/generator.h"
#include "tests/support/errors.h"

using namespace deltatape;

namespace {

constexpr std::array<DType, 7> kTypes{DType::boolean, DType::i32, DType::i64, DType::bf16,
                                      DType::f16,     DType::f32, DType::f64};

// The value of a binary16 bit pattern by its definition.
double half_value(uint16_t bits) {
  const int exponent = (bits >> 10) & 31;
  const int mantissa = bits & 1023;
  const double sign = (bits & 0x8000) != 0 ? -1.0 : 1.0;
  if (exponent == 31) {
    return mantissa == 0 ? sign * std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
  }
  return sign * (exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25));
}

// Checks that T's rounding of `x` is a nearest value, and the even one at a tie, where `value(bits)` defines the type
// and `infinite` is its positive infinity. Positive patterns are in the order of their values.
template <class T, class F>
bool rounds_to_nearest_even(float x, F&& value, uint16_t infinite) {
  const uint16_t bits = T::round_bits(x);
  const auto magnitude = static_cast<uint16_t>(bits & 0x7fff);
  if (std::signbit(x) != ((bits & 0x8000) != 0) || magnitude > infinite) {
    return false;
  }
  // Infinity stands one step above the largest number, as if the exponent went on.
  const auto finite = [&](uint16_t pattern) {
    if (pattern < infinite) {
      return value(pattern);
    }
    const double largest = value(static_cast<uint16_t>(infinite - 1));
    return largest + (largest - value(static_cast<uint16_t>(infinite - 2)));
  };
  const double target = std::abs(static_cast<double>(x));
  if (magnitude == infinite && target > finite(infinite)) {
    return true;
  }
  const double error = std::abs(finite(magnitude) - target);
  for (const int step : {-1, 1}) {
    if (magnitude + step < 0 || magnitude + step > infinite) {
      continue;
    }
    const double other = std::abs(finite(static_cast<uint16_t>(magnitude + step)) - target);
    if (other < error || (other == error && magnitude % 2 != 0)) {
      return false;
    }
  }
  return true;
}

double bfloat_value(uint16_t bits) {
  return static_cast<double>(std::bit_cast<float>(static_cast<uint32_t>(bits) << 16));
}

}  // namespace

TEST_CASE("promote: the written-out table") {
  constexpr auto kBool = DType::boolean;
  constexpr auto kI32 = DType::i32;
  constexpr auto kI64 = DType::i64;
  constexpr auto kBf16 = DType::bf16;
  constexpr auto kF16 = DType::f16;
  constexpr auto kF32 = DType::f32;
  constexpr auto kF64 = DType::f64;
  constexpr std::array<std::array<DType, 7>, 7> kTable{{{kBool, kI32, kI64, kBf16, kF16, kF32, kF64},
                                                        {kI32, kI32, kI64, kBf16, kF16, kF32, kF64},
                                                        {kI64, kI64, kI64, kBf16, kF16, kF32, kF64},
                                                        {kBf16, kBf16, kBf16, kBf16, kF32, kF32, kF64},
                                                        {kF16, kF16, kF16, kF32, kF16, kF32, kF64},
                                                        {kF32, kF32, kF32, kF32, kF32, kF32, kF64},
                                                        {kF64, kF64, kF64, kF64, kF64, kF64, kF64}}};
  for (size_t i = 0; i < kTypes.size(); ++i) {
    for (size_t j = 0; j < kTypes.size(); ++j) {
      CAPTURE(to_string(kTypes[i]));
      CAPTURE(to_string(kTypes[j]));
      CHECK(promote(kTypes[i], kTypes[j]) == kTable[i][j]);
    }
  }
}

TEST_CASE("dtype: names, sizes and C++ types") {
  for (const DType dtype : kTypes) {
    CHECK(parse_dtype("f", to_string(dtype)) == dtype);
    std::ostringstream out;
    out << dtype;
    CHECK(out.str() == fmt::format("{}", dtype));
    visit_dtype(dtype, [&](auto tag) {
      CHECK(dtype_of<decltype(tag)> == dtype);
      CHECK(sizeof(tag) == size_of(dtype));
    });
    CHECK(static_cast<int>(is_floating(dtype)) + static_cast<int>(is_integer(dtype)) ==
          (dtype == DType::boolean ? 0 : 1));
  }
  CHECK(to_string(DType::boolean) == "bool");
  CHECK_ERROR(parse_dtype("load", "float"), "load: dtype is 'float', expected f32, f64, bf16, f16, i64, i32 or bool");
}

TEST_CASE("Float16: every bit pattern widens to its value and rounds back to itself") {
  for (uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const auto pattern = static_cast<uint16_t>(bits);
    const double expected = half_value(pattern);
    const float widened = Float16::widen(pattern);
    if (std::isnan(expected)) {
      REQUIRE(std::isnan(widened));
      REQUIRE(std::isnan(half_value(Float16::round_bits(widened))));
    } else {
      REQUIRE(static_cast<double>(widened) == expected);
      REQUIRE(Float16::round_bits(widened) == pattern);
    }
  }
}

TEST_CASE("BFloat16: every bit pattern rounds back to itself") {
  for (uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const float widened = std::bit_cast<float>(bits << 16);
    BFloat16 number;
    number.bits = static_cast<uint16_t>(bits);
    if (std::isnan(widened)) {
      REQUIRE(std::isnan(static_cast<float>(number)));
      REQUIRE(std::isnan(static_cast<float>(BFloat16(widened))));
    } else {
      REQUIRE(static_cast<float>(number) == widened);
      REQUIRE(BFloat16::round_bits(widened) == bits);
    }
  }
}

TEST_CASE("Float16 and BFloat16: round to nearest, ties to even") {
  Generator generator(1);
  std::vector<uint32_t> patterns{0x00000001, 0x007fffff, 0x00800000, 0x7f7fffff, 0x7f7f7fff, 0x7f7f8000, 0x7f800000,
                                 0x33000000, 0x33000001, 0x32ffffff, 0x387fc000, 0x387fffff, 0x477fe000, 0x477fefff,
                                 0x477ff000, 0x477ff001, 0x38800000, 0x38802000, 0x38801000, 0x38803000};
  for (int i = 0; i < 200000; ++i) {
    auto pattern = static_cast<uint32_t>(generator.next_u64());
    if (i % 2 == 0) {
      pattern = 0x30000000U + pattern % 0x18000000U;  // where binary16 has its numbers
    }
    if (i % 8 == 0) {
      pattern &= 0xfffff000U;  // ties
    }
    patterns.push_back(pattern);
  }
  for (const uint32_t pattern : patterns) {
    for (const uint32_t sign : {0U, 0x80000000U}) {
      const auto x = std::bit_cast<float>(pattern ^ sign);
      if (std::isnan(x)) {
        REQUIRE(std::isnan(static_cast<float>(Float16(x))));
        REQUIRE(std::isnan(static_cast<float>(BFloat16(x))));
        continue;
      }
      CAPTURE(pattern);
      REQUIRE(rounds_to_nearest_even<Float16>(x, half_value, 0x7c00));
      REQUIRE(rounds_to_nearest_even<BFloat16>(x, bfloat_value, 0x7f80));
    }
  }
}
