// Stores past the caches, for results too large to be found there again: an ordinary store first reads the line.
#pragma once

#include <cstdint>
#include <cstring>

#ifdef __SSE2__
#include <immintrin.h>
#endif

namespace deltatape::cpu {

/// Results of at least this many bytes are streamed: well beyond what stays in a cache until the next op reads it.
inline constexpr int64_t kStreamBytes = int64_t{16} << 20;

/// Copies `bytes`. Call end_of_stream when the last block is out.
inline void stream_store(void* to, const void* from, int64_t bytes) {
#ifdef __SSE2__
  if (reinterpret_cast<uintptr_t>(to) % 64 == 0) {
    auto* target = static_cast<char*>(to);
    const auto* source = static_cast<const char*>(from);
    int64_t i = 0;
#if defined(__AVX512F__)
    for (; i + 64 <= bytes; i += 64) {
      _mm512_stream_si512(reinterpret_cast<__m512i*>(target + i), _mm512_loadu_si512(source + i));
    }
#elif defined(__AVX__)
    for (; i + 32 <= bytes; i += 32) {
      _mm256_stream_si256(reinterpret_cast<__m256i*>(target + i),
                          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(source + i)));
    }
#else
    for (; i + 16 <= bytes; i += 16) {
      _mm_stream_si128(reinterpret_cast<__m128i*>(target + i),
                       _mm_loadu_si128(reinterpret_cast<const __m128i*>(source + i)));
    }
#endif
    std::memcpy(target + i, source + i, static_cast<size_t>(bytes - i));
    return;
  }
#endif
  std::memcpy(to, from, static_cast<size_t>(bytes));
}

/// Makes streamed stores visible to other threads.
inline void end_of_stream() {
#ifdef __SSE2__
  _mm_sfence();
#endif
}

}  // namespace deltatape::cpu
