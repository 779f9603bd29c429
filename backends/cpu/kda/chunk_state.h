// What a tile does to the state, and to the gradient of the state, in a block of columns.
#pragma once

#include "backends/cpu/kda/ahead.h"
#include "backends/cpu/kda/tile.h"

namespace deltatape::cpu::kda {

namespace detail {

/// Rows [first, first + Count) of update_state, all sums in registers. A function of its own: inlined, it would share
/// the registers with its surroundings.
template <class T, int64_t Count, int64_t Width>
[[gnu::noinline]] void update_state_rows(int64_t first, int64_t column, int64_t steps, const T* factor, const T* left,
                                         int64_t ld_left, const T* right, int64_t ld_right, const T* before, T* after,
                                         int64_t ld) {
  using V = Vec<T>;
  const auto at = [=](int64_t r, int64_t w) { return (first + r) * ld + column + w * V::kSize; };
  V sums[Count][Width];
  unrolled<Count>([&](auto r) {
    unrolled<Width>([&](auto w) { sums[r][w] = broadcast(factor + first + r) * V::load(before + at(r, w)); });
  });
  for (int64_t i = 0; i < steps; ++i) {
    V rows[Width];
    unrolled<Width>([&](auto w) { rows[w] = V::load(right + i * ld_right + column + w * V::kSize); });
    unrolled<Count>([&](auto r) {
      const V x = broadcast(left + i * ld_left + first + r);
      unrolled<Width>([&](auto w) { sums[r][w] = fma(x, rows[w], sums[r][w]); });
    });
  }
  unrolled<Count>([&](auto r) { unrolled<Width>([&](auto w) { sums[r][w].store(after + at(r, w)); }); });
}

/// Rows at a time of two registers each: 16 sums of the 32 registers that AVX-512 has, 8 of 16 otherwise.
template <class T>
inline constexpr int64_t kUpdateRows = sizeof(Vec<T>) >= 64 ? 8 : 4;

template <class T, int64_t Width>
void update_state_columns(int64_t K, int64_t column, int64_t steps, const T* factor, const T* left, int64_t ld_left,
                          const T* right, int64_t ld_right, const T* before, T* after, int64_t ld, Ahead& ahead) {
  constexpr int64_t kRows = kUpdateRows<T> * 2 / Width;
  int64_t c = 0;
  for (; c + kRows <= K; c += kRows) {
    update_state_rows<T, kRows, Width>(c, column, steps, factor, left, ld_left, right, ld_right, before, after, ld);
    ahead.piece();
  }
  for (; c < K; ++c) {
    update_state_rows<T, 1, Width>(c, column, steps, factor, left, ld_left, right, ld_right, before, after, ld);
  }
}

}  // namespace detail

/// after = diag(factor) before + left' right, in one pass over the state; `after` may be `before`. States [K, columns]
/// with rows `ld` apart, factor [K], left [steps, K], right [steps, columns]; columns are whole registers. Spreads
/// `ahead` over the pass.
template <class T>
void update_state(int64_t K, int64_t columns, int64_t steps, const T* factor, const T* left, int64_t ld_left,
                  const T* right, int64_t ld_right, const T* before, T* after, int64_t ld, Ahead& ahead) {
  constexpr int64_t kSize = Vec<T>::kSize;
  ahead.spread_over(K / detail::kUpdateRows<T> * (columns / (2 * kSize)) +
                    K / (2 * detail::kUpdateRows<T>)*(columns / kSize % 2));
  int64_t j = 0;
  for (; j + 2 * kSize <= columns; j += 2 * kSize) {
    detail::update_state_columns<T, 2>(K, j, steps, factor, left, ld_left, right, ld_right, before, after, ld, ahead);
  }
  if (j < columns) {
    detail::update_state_columns<T, 1>(K, j, steps, factor, left, ld_left, right, ld_right, before, after, ld, ahead);
  }
}

}  // namespace deltatape::cpu::kda
