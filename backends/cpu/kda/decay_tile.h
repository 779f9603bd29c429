// Products of the rows of a tile with decay between them, and their adjoint: without a positive exponent and without a
// difference of sums, or centred where the decays are known to be weak. docs/chunk-forward.md, docs/chunk-backward.md.
#pragma once

#include "backends/cpu/kda/tile.h"

namespace deltatape::cpu::kda {

/// The tile's inputs, [16, Kp] each; q is scaled. Without q (null) decay_products leaves Aqk alone.
template <class T>
struct DecayInputs {
  const T* q;
  const T* k;
  const T* g;
  int64_t Kp;
};

/// With G the inclusive cumulative sum of g along the rows.
template <class T>
struct DecayProducts {
  T* from_start;  // [16, Kp], exp(G_i); its last row is the decay of the whole tile
  T* to_end;      // [16, Kp], exp(G_15 - G_i)
  T* N;           // [16, 16], sum_c k_ic k_jc exp(G_ic - G_jc) for i > j, else 0
  T* Aqk;         // [16, 16], sum_c q_ic k_jc exp(G_ic - G_jc) for i >= j, else 0
};

/// Elements of working memory that both functions need.
template <class T>
constexpr int64_t decay_scratch(int64_t Kp) {
  return 4 * kTileRows * Kp + 2 * kSquare;
}

/// Whether the centred form is allowed: every g of the tile lies within [-5, 0].
template <class T>
bool may_be_centred(const T* g, int64_t Kp);

template <class T>
void decay_products(bool centred, const DecayInputs<T>& in, const DecayProducts<T>& out, T* scratch);

/// The adjoint: from dN (strictly lower) and dAqk (lower), [16, 16] each, adds to dq (of the scaled q),
/// dk and dg, [16, Kp] each. `centred` as in forward. In the general form every summand of dg contains the decay of its
/// step, so that small gradients keep their digits.
template <class T>
void decay_products_backward(bool centred, const DecayInputs<T>& in, const T* dN, const T* dAqk, T* dq, T* dk, T* dg,
                             T* scratch);

}  // namespace deltatape::cpu::kda
