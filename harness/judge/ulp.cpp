#include "harness/judge/ulp.h"

#include <bit>
#include <cstdlib>

namespace deltatape::harness {
namespace {

// Neighbouring floating-point numbers become neighbouring integers, across zero as well.
template <class Bits>
int64_t place(Bits bits) {
  constexpr int kSign = static_cast<int>(sizeof(Bits)) * 8 - 1;
  const auto magnitude = static_cast<int64_t>(bits & static_cast<Bits>(~(Bits{1} << kSign)));
  return (bits >> kSign) != 0 ? -magnitude : magnitude;
}

int64_t place_of(double value, DType dtype) {
  switch (dtype) {
    case DType::bf16:
      return place(BFloat16::round_bits(static_cast<float>(value)));
    case DType::f16:
      return place(Float16::round_bits(static_cast<float>(value)));
    case DType::f32:
      return place(std::bit_cast<uint32_t>(static_cast<float>(value)));
    default:
      return place(std::bit_cast<uint64_t>(value));
  }
}

}  // namespace

int64_t ulp_distance(double a, double b, DType dtype) {
  int64_t distance = 0;
  if (__builtin_sub_overflow(place_of(a, dtype), place_of(b, dtype), &distance)) {
    return INT64_MAX;
  }
  return std::abs(distance);
}

}  // namespace deltatape::harness
