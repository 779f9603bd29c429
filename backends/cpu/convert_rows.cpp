#include "backends/cpu/convert_rows.h"

#include <array>
#include <concepts>
#include <cstring>
#include <limits>
#include <type_traits>

#ifdef __F16C__
#include <immintrin.h>
#endif

namespace deltatape::cpu {
namespace {

template <class T>
inline constexpr bool kIsHalf = std::is_same_v<T, BFloat16> || std::is_same_v<T, Float16>;

template <class To, class From>
To convert(From value) {
  if constexpr (std::is_same_v<To, From>) {
    return value;
  } else if constexpr (kIsHalf<From>) {
    return convert<To>(static_cast<float>(value));
  } else if constexpr (std::is_same_v<To, bool>) {
    return value != From{0};
  } else if constexpr (kIsHalf<To>) {
    return To(static_cast<float>(value));
  } else if constexpr (std::floating_point<From> && std::integral<To>) {
    // The upper limit itself rounds up to the first number that does not fit.
    constexpr auto kLow = static_cast<From>(std::numeric_limits<To>::min());
    constexpr auto kHigh = static_cast<From>(std::numeric_limits<To>::max());
    if (!(value >= kLow)) {
      return value != value ? To{0} : std::numeric_limits<To>::min();
    }
    return value >= kHigh ? std::numeric_limits<To>::max() : static_cast<To>(value);
  } else {
    return static_cast<To>(value);
  }
}

template <class From, class To>
void convert_dense(const From* from, To* to, int64_t count) {
  if constexpr (std::is_same_v<From, To>) {
    std::memcpy(to, from, static_cast<size_t>(count) * sizeof(To));
    return;
  }
  int64_t i = 0;
#ifdef __F16C__
  if constexpr (std::is_same_v<From, Float16> && std::is_same_v<To, float>) {
    for (; i + 8 <= count; i += 8) {
      _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i))));
    }
  }
  if constexpr (std::is_same_v<From, float> && std::is_same_v<To, Float16>) {
    for (; i + 8 <= count; i += 8) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i),
                       _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    }
  }
#endif
  for (; i < count; ++i) {
    to[i] = convert<To>(from[i]);
  }
}

template <class From, class To>
void convert_strided(const char* from, int64_t from_stride, char* to, int64_t to_stride, int64_t count) {
  if (from_stride == static_cast<int64_t>(sizeof(From)) && to_stride == static_cast<int64_t>(sizeof(To))) {
    convert_dense(reinterpret_cast<const From*>(from), reinterpret_cast<To*>(to), count);
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    *reinterpret_cast<To*>(to + i * to_stride) = convert<To>(*reinterpret_cast<const From*>(from + i * from_stride));
  }
}

template <class From>
constexpr std::array<ConvertRow, 7> convert_from() {  // in the order of DType
  return {&convert_strided<From, float>,   &convert_strided<From, double>,  &convert_strided<From, BFloat16>,
          &convert_strided<From, Float16>, &convert_strided<From, int64_t>, &convert_strided<From, int32_t>,
          &convert_strided<From, bool>};
}
static_assert(static_cast<int>(DType::f32) == 0 && static_cast<int>(DType::f64) == 1 &&
              static_cast<int>(DType::bf16) == 2 && static_cast<int>(DType::f16) == 3 &&
              static_cast<int>(DType::i64) == 4 && static_cast<int>(DType::i32) == 5 &&
              static_cast<int>(DType::boolean) == 6);

}  // namespace

ConvertRow convert_row(DType from, DType to) {
  static constexpr std::array<std::array<ConvertRow, 7>, 7> kTable{
      convert_from<float>(),   convert_from<double>(),  convert_from<BFloat16>(), convert_from<Float16>(),
      convert_from<int64_t>(), convert_from<int32_t>(), convert_from<bool>()};
  return kTable[static_cast<size_t>(from)][static_cast<size_t>(to)];
}

}  // namespace deltatape::cpu
