// States between tensors ([.., K, V], or [.., V, K] with state_v_first) and working memory ([K, Vp]).
#pragma once

#include "backends/cpu/kda/rows.h"
#include "backends/cpu/kda/tile.h"

namespace deltatape::cpu::kda {

/// Where the state of a value head stands in a tensor [N, HV, ..]; -1 when the sequence has none.
inline int64_t state_index(int64_t state, int64_t heads, int64_t head) { return state < 0 ? -1 : state * heads + head; }

/// S [K, Vp] = state `index` of `states` ([*, K, V], counting all leading dimensions); zeros when there is none.
template <class T>
void load_state(const Tensor& states, int64_t index, bool v_first, const Sizes<T>& size, T* S) {
  if (!states.defined() || index < 0) {
    std::fill(S, S + size.state(), T(0));
    return;
  }
  const RowReader<T> rows(states, v_first ? size.K : size.V);
  for (int64_t c = 0; c < size.K; ++c) {
    T* row = S + c * size.Vp;
    if (v_first) {
      rows.read_column(index * size.V, c, size.V, row);
    } else {
      rows.read(index * size.K + c, 0, size.V, row);
    }
    std::fill(row + size.V, row + size.Vp, T(0));
  }
}

/// Columns [first, first + count) of state `index` = those of S [K, Vp]; columns beyond V are left out.
template <class T>
void store_state(const Tensor& states, int64_t index, bool v_first, const Sizes<T>& size, const T* S, int64_t first,
                 int64_t count) {
  const RowWriter<T> rows(states, v_first ? size.K : size.V);
  const int64_t columns = std::min(count, size.V - first);
  for (int64_t c = 0; c < size.K; ++c) {
    const T* row = S + c * size.Vp + first;
    if (v_first) {
      rows.write_column(index * size.V + first, c, columns, row);
    } else {
      rows.write(index * size.K + c, first, columns, row);
    }
  }
}

}  // namespace deltatape::cpu::kda
