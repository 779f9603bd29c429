// What every v0 kernel of a call knows: sizes, options, and which value heads are its own.
#pragma once

#include <cstdint>

#include "backends/kda.h"

namespace deltatape::cuda::kda::v0 {

using namespace deltatape::kda;  // the problem and its buffers

/// Threads of a block.
inline constexpr int kThreads = 256;

/// Sizes and options of a call, and the value heads [first_head, first_head + heads) that a launch works on: whole
/// groups that share a head of q and k. "Rows" are the B * T tokens.
struct Call {
  int64_t rows = 0;
  int64_t H = 0;
  int64_t HV = 0;
  int64_t K = 0;
  int64_t V = 0;
  int64_t group = 1;  // value heads that share a head of q and k
  int64_t first_head = 0;
  int64_t heads = 0;
  double scale = 1.0;
  Gate gate = Gate::none;
  double lower_bound = -5.0;
  double beta_factor = 1.0;
  int64_t chunk_size = 64;
  bool l2norm = false;
  bool beta_sigmoid = false;
  bool state_v_first = false;

  explicit Call(const KernelProblem& p)
      : rows(p.B * p.T),
        H(p.H),
        HV(p.HV),
        K(p.K),
        V(p.V),
        group(p.HV / p.H),
        heads(p.HV),
        scale(p.scale),
        gate(p.gate),
        lower_bound(p.lower_bound),
        beta_factor(p.beta_factor),
        chunk_size(p.chunk_size),
        l2norm(p.l2norm),
        beta_sigmoid(p.beta_sigmoid),
        state_v_first(p.state_v_first) {}

  /// Heads of q and k of this launch, and the first of them.
  [[nodiscard]] DT_HD int64_t key_heads() const { return heads / group; }
  [[nodiscard]] DT_HD int64_t first_key_head() const { return first_head / group; }
  /// Element (c, column) of state `number` of a tensor [*,states_heads,K,V] ([..,V,K] with `v_first`).
  [[nodiscard]] DT_HD int64_t state_element(int64_t state, int64_t c, int64_t column, bool v_first) const {
    return state * K * V + (v_first ? column * K + c : c * V + column);
  }
};

/// The operands of the recurrence for the heads of a launch, as the prologue makes them.
template <class T>
struct Operands {
  T* q = nullptr;       // [rows, key_heads, K], normalised, not yet times scale
  T* k = nullptr;       // [rows, key_heads, K]
  T* q_norm = nullptr;  // [rows, key_heads], what the norm multiplied by
  T* k_norm = nullptr;
  T* decay = nullptr;  // [rows, heads, K], exp of the log decay
  T* beta = nullptr;   // [rows, heads]
};

/// How a block cuts a state into columns, and the work on them into parts of rows.
struct Split {
  int width = 0;  // columns of a block; those behind V are zeros
  int parts = 0;  // threads per column: each takes `part_rows` rows
  int part_rows = 0;
  int slices = 0;      // blocks that a state is cut into
  int steps = 0;       // tokens whose operands a block reads at a time
  int64_t shared = 0;  // bytes
};

}  // namespace deltatape::cuda::kda::v0
