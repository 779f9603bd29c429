// The states that forward starts from, and those that a caller asked for: per chunk (h), as checkpoints for backward,
// and the final ones.
#pragma once

#include <vector>

#include "backends/cpu/kda/schedule.h"
#include "backends/cpu/kda/states.h"

namespace deltatape::cpu::kda {

template <class T>
class StateKeeper {
 public:
  StateKeeper(const KernelProblem& p, const KernelInputs& in, const KernelOutputs& out)
      : p_(p),
        in_(in),
        out_(out),
        size_(p),
        first_h_(first_numbers(p, [&p](int64_t length) { return ceil_div(length, p.chunk_size); })),
        first_checkpoint_(first_checkpoints(p)) {}

  /// S [K, Vp] = the state before the first token of sequence n.
  void load_initial(int64_t n, int64_t head, T* S) const {
    load_state(in_.initial_state, state_index(sequence(n).state_in, p_.HV, head), p_.state_v_first, size_, S);
  }
  /// S is the state after the last token: its columns from `column` on go where they are wanted.
  void keep_final(int64_t n, int64_t head, const T* S, int64_t column, int64_t columns) const {
    const int64_t index = state_index(sequence(n).state_out, p_.HV, head);
    if (out_.final_state.defined() && index >= 0) {
      store_state(out_.final_state, index, p_.state_v_first, size_, S, column, columns);
    }
  }
  /// S [K, Vp] is the state of sequence n before this tile: its columns from `column` on go where they are wanted.
  void keep(int64_t n, int64_t tile, int64_t head, const T* S, int64_t column, int64_t columns) const {
    const int64_t token = tile * kTileRows;
    if (out_.h.defined() && token % p_.chunk_size == 0) {
      const int64_t block = first_h_[static_cast<size_t>(n)] + token / p_.chunk_size;
      store_state(out_.h, block * p_.HV + head, p_.state_v_first, size_, S, column, columns);
    }
    if (out_.saved.defined() && token > 0 && token % kCheckpointSteps == 0) {
      const int64_t block = first_checkpoint_[static_cast<size_t>(n)] + token / kCheckpointSteps - 1;
      store_state(out_.saved, block * p_.HV + head, false, size_, S, column, columns);
    }
  }

 private:
  [[nodiscard]] const Sequence& sequence(int64_t n) const { return p_.sequences[static_cast<size_t>(n)]; }

  const KernelProblem& p_;
  const KernelInputs& in_;
  const KernelOutputs& out_;
  Sizes<T> size_;
  std::vector<int64_t> first_h_;
  std::vector<int64_t> first_checkpoint_;
};

}  // namespace deltatape::cpu::kda
