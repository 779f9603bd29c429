// From the tensors of a call to tiles of the operands of the recurrence: norm, gate and sigmoid are applied here.
#pragma once

#include "backends/cpu/kda/rows.h"
#include "backends/cpu/kda/tile.h"

namespace deltatape::cpu::kda {

/// Added to x.x under the root of the L2 norm.
inline constexpr double kNormEps = 1e-6;

template <class T>
class Prologue {
 public:
  Prologue(const KernelProblem& problem, const KernelInputs& inputs);

  /// q [16, Kp] of head `head` of q and k: normalised when asked for, times scale. `norm` [16], unless null: what the
  /// norm multiplied each row by, 1 without norm.
  void queries(const Place& place, int64_t head, T* q, T* norm) const;
  /// k [16, Kp], normalised when asked for, likewise.
  void keys(const Place& place, int64_t head, T* k, T* norm) const;
  /// Log decay g [16, Kp] of a value head.
  void log_decays(const Place& place, int64_t value_head, T* g) const;
  /// beta [16].
  void betas(const Place& place, int64_t value_head, T* beta) const;
  /// v [16, Vp]; columns beyond V are zero.
  void values(const Place& place, int64_t value_head, T* v) const;
  /// Columns [first, first + columns) of v, rows `ld` apart; columns beyond V are zero.
  void value_columns(const Place& place, int64_t value_head, int64_t first, int64_t columns, T* v, int64_t ld) const;
  /// What the functions above read of rows [first, first + count) of the tile at `place`, without beta.
  void ask(const Place& place, int64_t first, int64_t count, int64_t value_head, bool values, Ahead& ahead) const;

 private:
  void rows(const RowReader<T>& reader, const Place& place, int64_t head, double factor, T* out, T* norm) const;

  const KernelProblem& problem_;
  const KernelInputs& inputs_;
  Sizes<T> size_;
  RowReader<T> q_;
  RowReader<T> k_;
  RowReader<T> v_;
  RowReader<T> g_;
  RowReader<T> beta_;
};

/// rows [16, ld]: columns [first, first + columns) of a tensor [B,T,heads,width], zeros beyond the tile and the width.
/// Calls finish(row, i) on every row of the tile as it comes in.
template <class T, class F>
void read_columns(const RowReader<T>& reader, const Place& place, int64_t steps, int64_t heads, int64_t head,
                  int64_t width, int64_t first, int64_t columns, T* rows, int64_t ld, F finish) {
  const int64_t present = std::min(columns, width - first);
  for (int64_t i = 0; i < kTileRows; ++i) {
    T* row = rows + i * ld;
    if (i < place.count) {
      reader.read((place.row * steps + place.first + i) * heads + head, first, present, row);
      std::fill(row + present, row + columns, T(0));
      finish(row, i);
    } else {
      std::fill(row, row + columns, T(0));
    }
  }
}
template <class T>
void read_columns(const RowReader<T>& reader, const Place& place, int64_t steps, int64_t heads, int64_t head,
                  int64_t width, int64_t first, int64_t columns, T* rows, int64_t ld) {
  read_columns(reader, place, steps, heads, head, width, first, columns, rows, ld, [](T*, int64_t) {});
}

}  // namespace deltatape::cpu::kda
