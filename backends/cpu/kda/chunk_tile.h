// What a tile needs of no other tile: the operands of the state loop, made from the tensors of a call.
#pragma once

#include "backends/cpu/kda/decay_tile.h"
#include "backends/cpu/kda/prologue.h"

namespace deltatape::cpu::kda {

/// One tile of one value head. Names as in docs/chunk-forward.md.
template <class T>
struct ChunkTile {
  T* read;   // [32, Kp]: k exp(G), then q exp(G); q is scaled
  T* kg;     // [16, Kp]: k exp(G_15 - G)
  T* whole;  // [Kp]: exp(G_15)
  T* N;      // [16, 16], strictly lower
  T* Aqk;    // [16, 16], lower
  T* beta;   // [16]
  T* v;      // [16, Vp]

  [[nodiscard]] const T* k_read() const { return read; }

  static int64_t elements(const Sizes<T>& s) {
    return Pieces<T>::rounded(3 * kTileRows * s.Kp) + Pieces<T>::rounded(s.Kp) + 2 * kSquare +
           Pieces<T>::rounded(kTileRows) + Pieces<T>::rounded(kTileRows * s.Vp);
  }
  ChunkTile(T* memory, const Sizes<T>& s) {
    Pieces<T> pieces(memory);
    read = pieces.take(3 * kTileRows * s.Kp);
    kg = read + 2 * kTileRows * s.Kp;
    whole = pieces.take(s.Kp);
    N = pieces.take(kSquare);
    Aqk = pieces.take(kSquare);
    beta = pieces.take(kTileRows);
    v = pieces.take(kTileRows * s.Vp);
  }
};

/// The tile's own rows, kept where backward needs them.
template <class T>
struct TileRows {
  T* q;  // [16, Kp] each; q is scaled
  T* k;
  T* g;
  T* from_start;  // exp(G)
  T* to_end;      // exp(G_15 - G)
  T* q_norm;      // [16], what q was multiplied by, without scale
  T* k_norm;      // [16]

  static int64_t elements(int64_t Kp) { return Pieces<T>::rounded(5 * kTileRows * Kp) + 2 * kTileRows; }
  TileRows(T* memory, int64_t Kp) {
    q = memory;
    k = q + kTileRows * Kp;
    g = k + kTileRows * Kp;
    from_start = g + kTileRows * Kp;
    to_end = from_start + kTileRows * Kp;
    q_norm = to_end + kTileRows * Kp;
    k_norm = q_norm + kTileRows;
  }
};

/// What is made of a tile: all but v, or only what keys read and write (k^, kg, whole, N, beta).
enum class TileParts : uint8_t { all, keys };

/// Fills a tile, without v.
template <class T>
void make_tile(const Prologue<T>& prologue, const KernelProblem& problem, const Place& place, int64_t value_head,
               const Sizes<T>& size, const TileRows<T>& rows, const ChunkTile<T>& tile, T* scratch,
               TileParts parts = TileParts::all);

}  // namespace deltatape::cpu::kda
