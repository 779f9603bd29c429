#include "core/dtype.h"

#include <array>
#include <utility>

#include "core/error.h"

namespace deltatape {

uint16_t Float16::round_bits(float value) {
  const auto word = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>((word >> 16) & 0x8000U);
  const uint32_t magnitude = word & 0x7fffffffU;
  if (magnitude >= 0x7f800000U) {  // infinity or NaN
    const uint32_t nan = magnitude > 0x7f800000U ? 0x0200U | ((magnitude >> 13) & 0x03ffU) : 0U;
    return static_cast<uint16_t>(sign | 0x7c00U | nan);
  }
  if (magnitude >= 0x477ff000U) {  // rounds to 65536 or more
    return static_cast<uint16_t>(sign | 0x7c00U);
  }
  if (magnitude < 0x38800000U) {  // subnormal half: let the FPU round at the right place
    const float shifted = std::bit_cast<float>(magnitude) + 0.5F;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - std::bit_cast<uint32_t>(0.5F)));
  }
  const uint32_t rounded = magnitude + 0x0fffU + ((magnitude >> 13) & 1U);
  return static_cast<uint16_t>(sign | ((rounded - 0x38000000U) >> 13));
}

float Float16::widen(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000U) << 16;
  const uint32_t rest = bits & 0x7fffU;
  if (rest >= 0x7c00U) {
    return std::bit_cast<float>(sign | 0x7f800000U | ((rest & 0x03ffU) << 13));
  }
  if (rest < 0x0400U) {  // zero and subnormals: rest * 2^-24
    const float magnitude = static_cast<float>(rest) * 0x1p-24F;
    return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
  }
  return std::bit_cast<float>(sign | ((rest << 13) + 0x38000000U));
}

namespace {
constexpr std::array<std::pair<DType, std::string_view>, 7> kNames{{{DType::f32, "f32"},
                                                                    {DType::f64, "f64"},
                                                                    {DType::bf16, "bf16"},
                                                                    {DType::f16, "f16"},
                                                                    {DType::i64, "i64"},
                                                                    {DType::i32, "i32"},
                                                                    {DType::boolean, "bool"}}};

int promotion_rank(DType dtype) {
  switch (dtype) {
    case DType::boolean:
      return 0;
    case DType::i32:
      return 1;
    case DType::i64:
      return 2;
    case DType::bf16:
    case DType::f16:
      return 3;
    case DType::f32:
      return 4;
    case DType::f64:
      return 5;
  }
  return 5;
}
}  // namespace

std::string_view to_string(DType dtype) {
  for (const auto& [value, name] : kNames) {
    if (value == dtype) {
      return name;
    }
  }
  return "?";
}

DType parse_dtype(std::string_view function, std::string_view name) {
  for (const auto& [value, text] : kNames) {
    if (text == name) {
      return value;
    }
  }
  fail(function, "dtype is '{}', expected f32, f64, bf16, f16, i64, i32 or bool", name);
}

std::ostream& operator<<(std::ostream& out, DType dtype) { return out << to_string(dtype); }

DType promote(DType a, DType b) {
  if (a == b) {
    return a;
  }
  const int x = promotion_rank(a);
  const int y = promotion_rank(b);
  if (x == y) {
    return DType::f32;  // bf16 with f16: neither holds the other
  }
  return x > y ? a : b;
}

}  // namespace deltatape
