// The states that backward starts from, and the gradients of states that it ends with.
#pragma once

#include <vector>

#include "backends/cpu/kda/schedule.h"
#include "backends/cpu/kda/states.h"

namespace deltatape::cpu::kda {

template <class T>
class BackwardStates {
 public:
  BackwardStates(const KernelProblem& p, const KernelInputs& in, const KernelUpstream& up, const KernelGradients& out)
      : p_(p), in_(in), up_(up), out_(out), size_(p), first_checkpoint_(first_checkpoints(p)) {}

  // S and dS are [K, Vp], `head` is a value head of sequence n.

  /// S = the state before the first token.
  void load_initial(int64_t n, int64_t head, T* S) const {
    load_state(in_.initial_state, state_index(sequence(n).state_in, p_.HV, head), p_.state_v_first, size_, S);
  }
  /// Whether forward kept states on the way.
  [[nodiscard]] bool kept() const { return up_.saved.defined(); }
  /// S = the state before `token`, a positive multiple of kCheckpointSteps that the sequence has.
  void load_kept(int64_t n, int64_t head, int64_t token, T* S) const {
    const int64_t number = first_checkpoint_[static_cast<size_t>(n)] + token / kCheckpointSteps - 1;
    load_state(up_.saved, number * p_.HV + head, false, size_, S);
  }
  /// dS = the gradient of the final state.
  void load_gradient(int64_t n, int64_t head, T* dS) const {
    load_state(up_.d_final_state, state_index(sequence(n).state_out, p_.HV, head), p_.state_v_first, size_, dS);
  }
  /// dS is the gradient of the initial state: it goes where it is wanted.
  void store_gradient(int64_t n, int64_t head, const T* dS) const {
    const int64_t index = state_index(sequence(n).state_in, p_.HV, head);
    if (out_.d_initial_state.defined() && index >= 0) {
      store_state(out_.d_initial_state, index, p_.state_v_first, size_, dS, 0, size_.Vp);
    }
  }

 private:
  [[nodiscard]] const Sequence& sequence(int64_t n) const { return p_.sequences[static_cast<size_t>(n)]; }

  const KernelProblem& p_;
  const KernelInputs& in_;
  const KernelUpstream& up_;
  const KernelGradients& out_;
  Sizes<T> size_;
  std::vector<int64_t> first_checkpoint_;
};

}  // namespace deltatape::cpu::kda
