// Several elements in one access.
#pragma once

#include <bit>

#include "backends/cuda/kda/tile/target.h"

namespace deltatape::cuda::tile {

template <int bytes>
struct WordOf;
template <>
struct WordOf<2> {
  using type = uint16_t;
};
template <>
struct WordOf<4> {
  using type = uint32_t;
};
template <>
struct WordOf<8> {
  using type = uint2;
};
template <>
struct WordOf<16> {
  using type = uint4;
};

template <class T, int n>
DT_DEVICE void load_words(const T* from, Values<T, n>& to) {
  constexpr int kMost = 16 / static_cast<int>(sizeof(T));
  constexpr int kStep = n < kMost ? n : kMost;
  static_assert(n % kStep == 0);
  unroll<n / kStep>([&](auto w) {
    using Word = typename WordOf<kStep* static_cast<int>(sizeof(T))>::type;
    const auto part = std::bit_cast<Values<T, kStep>>(*reinterpret_cast<const Word*>(from + w * kStep));
    unroll<kStep>([&](auto i) { to[w * kStep + i] = part[i]; });
  });
}

template <class T, int n>
DT_DEVICE void store_words(T* to, const Values<T, n>& from) {
  constexpr int kMost = 16 / static_cast<int>(sizeof(T));
  constexpr int kStep = n < kMost ? n : kMost;
  static_assert(n % kStep == 0);
  unroll<n / kStep>([&](auto w) {
    using Word = typename WordOf<kStep* static_cast<int>(sizeof(T))>::type;
    Values<T, kStep> part;
    unroll<kStep>([&](auto i) { part[i] = from[w * kStep + i]; });
    *reinterpret_cast<Word*>(to + w * kStep) = std::bit_cast<Word>(part);
  });
}

}  // namespace deltatape::cuda::tile
