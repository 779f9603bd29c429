// Rows of floating-point numbers between their storage type and the type that kernels compute in.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>

#include "core/dtype.h"

#ifdef __F16C__
#include <immintrin.h>
#endif

namespace deltatape::cpu {

/// f32 for the 16-bit types, else the type itself.
template <class T>
using ComputeType = std::conditional_t<std::is_same_v<T, BFloat16> || std::is_same_v<T, Float16>, float, T>;
template <class T>
inline constexpr bool kIsComputeType = std::is_same_v<T, ComputeType<T>>;

/// out[i] = in[i * stride] for i in [0, n).
template <class T>
void load_row(const T* in, int64_t stride, int64_t n, ComputeType<T>* out) {
  int64_t i = 0;
  if (stride == 1) {
#ifdef __F16C__
    if constexpr (std::is_same_v<T, Float16>) {
      for (; i + 8 <= n; i += 8) {
        _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(in + i))));
      }
    }
#endif
    for (; i < n; ++i) {
      out[i] = static_cast<ComputeType<T>>(in[i]);
    }
    return;
  }
  for (; i < n; ++i) {
    out[i] = static_cast<ComputeType<T>>(in[i * stride]);
  }
}

/// out[i] = in[i], rounded to nearest even.
template <class T>
void store_row(const ComputeType<T>* in, int64_t n, T* out) {
  int64_t i = 0;
#ifdef __F16C__
  if constexpr (std::is_same_v<T, Float16>) {
    for (; i + 8 <= n; i += 8) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i),
                       _mm256_cvtps_ph(_mm256_loadu_ps(in + i), _MM_FROUND_TO_NEAREST_INT));
    }
  }
#endif
  for (; i < n; ++i) {
    out[i] = T(in[i]);
  }
}

/// Working memory of one call: a few KiB on the stack, more from the heap. Uninitialised.
template <class T>
class Scratch {
 public:
  explicit Scratch(int64_t count) : data_(stack_) {
    if (count > kOnStack) {
      heap_.reset(new T[static_cast<size_t>(count)]);
      data_ = heap_.get();
    }
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  [[nodiscard]] T* data() { return data_; }

 private:
  static constexpr int64_t kOnStack = 8192 / static_cast<int64_t>(sizeof(T));

  alignas(64) T stack_[kOnStack];
  std::unique_ptr<T[]> heap_;
  T* data_;
};

}  // namespace deltatape::cpu
