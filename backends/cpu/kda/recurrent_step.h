// One token of the recurrence on a block of columns of the state, forward and back.
#pragma once

#include "backends/cpu/kda/tile.h"

namespace deltatape::cpu::kda {

/// What a token brings, as rows of the prologue: [Kp] each; q is scaled.
template <class T>
struct Token {
  const T* q;
  const T* k;
  const T* decay;  // exp(g)
  T beta;
};

/// Calls f with the number of registers, a constant, that block of columns by block of columns is worked on together:
/// f(column, Registers<R>).
template <int R>
struct Registers {
  static constexpr int count = R;
};
template <class T, class F>
void for_register_groups(int64_t columns, F f) {
  int64_t column = 0;
  for (; column + 4 * Vec<T>::kSize <= columns; column += 4 * Vec<T>::kSize) {
    f(column, Registers<4>{});
  }
  for (; column + 2 * Vec<T>::kSize <= columns; column += 2 * Vec<T>::kSize) {
    f(column, Registers<2>{});
  }
  for (; column < columns; column += Vec<T>::kSize) {
    f(column, Registers<1>{});
  }
}

/// S [K, columns], rows `ld` apart: decays, is corrected, and is read where `o` is not null. `e` gets v - S~' k.
template <class T, int R>
void token_forward(int64_t K, const Token<T>& token, const T* v, T* S, int64_t ld, T* e, T* o) {
  using V = Vec<T>;
  V predicted[R];
  for (V& x : predicted) {
    x = V(0.0);
  }
  for (int64_t c = 0; c < K; ++c) {
    const V decay = broadcast(token.decay + c);
    const V k = broadcast(token.k + c);
    for (int64_t r = 0; r < R; ++r) {
      const V s = decay * V::load(S + c * ld + r * V::kSize);
      s.store(S + c * ld + r * V::kSize);
      predicted[r] = fma(k, s, predicted[r]);
    }
  }
  V write[R];
  V read[R];
  for (int64_t r = 0; r < R; ++r) {
    const V error = V::load(v + r * V::kSize) - predicted[r];
    error.store(e + r * V::kSize);
    write[r] = broadcast(&token.beta) * error;
    read[r] = V(0.0);
  }
  for (int64_t c = 0; c < K; ++c) {
    const V k = broadcast(token.k + c);
    const V q = broadcast(token.q + c);
    for (int64_t r = 0; r < R; ++r) {
      const V s = fma(k, write[r], V::load(S + c * ld + r * V::kSize));
      s.store(S + c * ld + r * V::kSize);
      read[r] = fma(q, s, read[r]);
    }
  }
  if (o != nullptr) {
    for (int64_t r = 0; r < R; ++r) {
      read[r].store(o + r * V::kSize);
    }
  }
}

}  // namespace deltatape::cpu::kda
