// From gradients of the operands of the recurrence to gradients of the tensors of a call: the adjoint of prologue.h.
#pragma once

#include <vector>

#include "backends/cpu/kda/prologue.h"

namespace deltatape::cpu::kda {

/// Sums over tokens for the gate's parameters of one value head, by one sequence.
struct GateSums {
  double dA_log = 0.0;
  double* ddt_bias = nullptr;  // [K]; null: not wanted
};

template <class T>
class Epilogue {
 public:
  Epilogue(const KernelProblem& problem, const KernelInputs& inputs, const KernelGradients& gradients);

  // Rows as in Prologue; the input's own values are read again.

  /// dq [16, Kp], with respect to what Prologue::queries gave, summed over the value heads of the group.
  void queries(const Place& place, int64_t head, const T* dq) const;
  void keys(const Place& place, int64_t head, const T* dk) const;
  /// dg [16, Kp] with respect to the log decay; adds to `sums`.
  void log_decays(const Place& place, int64_t value_head, const T* dg, GateSums& sums) const;
  void betas(const Place& place, int64_t value_head, const T* dbeta) const;
  /// Columns [first, first + columns) of dv.
  void values(const Place& place, int64_t value_head, int64_t first, int64_t columns, const T* dv, int64_t ld) const;

  [[nodiscard]] bool wants_gate_sums() const { return gradients_.dA_log.defined() || gradients_.ddt_bias.defined(); }
  /// Writes dA_log and ddt_bias: the sums of all sequences in their order. `sums` [sequence * HV + value head].
  void gate_parameters(const std::vector<GateSums>& sums) const;

 private:
  void norm_rows(const RowReader<T>& reader, const RowWriter<T>& writer, const Place& place, int64_t head,
                 double factor, const T* d) const;

  const KernelProblem& problem_;
  const KernelInputs& inputs_;
  const KernelGradients& gradients_;
  Sizes<T> size_;
  RowReader<T> q_;
  RowReader<T> k_;
  RowReader<T> g_;
  RowReader<T> beta_;
  RowWriter<T> dq_;
  RowWriter<T> dk_;
  RowWriter<T> dv_;
  RowWriter<T> dg_;
  RowWriter<T> dbeta_;
};

}  // namespace deltatape::cpu::kda
