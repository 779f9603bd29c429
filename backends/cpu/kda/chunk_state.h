// The steps of the state loop that forward, the replay in backward and the search for checkpoints share.
#pragma once

#include "backends/cpu/gemm.h"
#include "backends/cpu/kda/chunk_tile.h"

namespace deltatape::cpu::kda {

/// y = x - y on rows of `columns`.
template <class T>
void subtract_rows(int64_t rows, int64_t columns, const T* x, int64_t ldx, T* y, int64_t ldy) {
  for (int64_t i = 0; i < rows; ++i) {
    for_registers<T>(columns, [&](int64_t c) {
      (Vec<T>::load(x + i * ldx + c) - Vec<T>::load(y + i * ldy + c)).store(y + i * ldy + c);
    });
  }
}

/// Row c of S [K, columns] times factor[c].
template <class T>
void scale_rows(int64_t K, int64_t columns, const T* factor, T* S, int64_t ld) {
  for (int64_t c = 0; c < K; ++c) {
    const Vec<T> f = broadcast(factor + c);
    for_registers<T>(columns, [&](int64_t j) { (f * Vec<T>::load(S + c * ld + j)).store(S + c * ld + j); });
  }
}

/// S = diag(exp G_15) S + kg' d: the state after the tile, in a block of columns; `writes` are the rows d.
template <class T>
void carry_state(const ChunkTile<T>& tile, const Sizes<T>& size, int64_t columns, const T* writes, int64_t ld, T* S) {
  scale_rows(size.K, columns, tile.whole, S, size.Vp);
  small_gemm<T>(size.K, columns, kTileRows, {tile.kg, 1, size.Kp}, {writes, ld, 1}, S, size.Vp, Update::add);
}

}  // namespace deltatape::cpu::kda
