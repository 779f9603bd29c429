// The states on the way that a caller asked for: per chunk (h), and as checkpoints for backward.
#pragma once

#include <vector>

#include "backends/cpu/kda/schedule.h"
#include "backends/cpu/kda/states.h"

namespace deltatape::cpu::kda {

template <class T>
class StateKeeper {
 public:
  StateKeeper(const KernelProblem& p, const KernelOutputs& out)
      : p_(p),
        out_(out),
        size_(p),
        first_h_(first_numbers(p, [&p](int64_t length) { return ceil_div(length, p.chunk_size); })),
        first_checkpoint_(first_checkpoints(p)) {}

  /// S [K, Vp] is the state of sequence n before this tile: its columns from `column` on go where they are wanted.
  void keep(int64_t n, int64_t tile, int64_t head, const T* S, int64_t column, int64_t columns) const {
    const int64_t token = tile * kTileRows;
    if (out_.h.defined() && token % p_.chunk_size == 0) {
      const int64_t block = first_h_[static_cast<size_t>(n)] + token / p_.chunk_size;
      store_state(out_.h, block * p_.HV + head, p_.state_v_first, size_, S, column, columns);
    }
    if (out_.checkpoints.defined() && token > 0 && token % kCheckpointSteps == 0) {
      const int64_t block = first_checkpoint_[static_cast<size_t>(n)] + token / kCheckpointSteps - 1;
      store_state(out_.checkpoints, block * p_.HV + head, false, size_, S, column, columns);
    }
  }

 private:
  const KernelProblem& p_;
  const KernelOutputs& out_;
  Sizes<T> size_;
  std::vector<int64_t> first_h_;
  std::vector<int64_t> first_checkpoint_;
};

}  // namespace deltatape::cpu::kda
