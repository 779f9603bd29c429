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

/// One of them for every tile of a batch: tiles are finished side by side, and their sums then added in order.
class TileGateSums {
 public:
  /// K is 0 where ddt_bias is not wanted.
  TileGateSums(int64_t tiles, int64_t K)
      : K_(static_cast<size_t>(K)), sums_(static_cast<size_t>(tiles)), bias_sums_(static_cast<size_t>(tiles * K)) {}
  /// The sums of a tile, set to zero.
  GateSums& clear(int64_t tile) {
    GateSums& sums = sums_[static_cast<size_t>(tile)];
    double* bias = bias_sums_.data() + static_cast<size_t>(tile) * K_;
    std::fill_n(bias, K_, 0.0);
    sums = {0.0, K_ > 0 ? bias : nullptr};
    return sums;
  }
  [[nodiscard]] const GateSums& at(int64_t tile) const { return sums_[static_cast<size_t>(tile)]; }

 private:
  size_t K_;
  std::vector<GateSums> sums_;
  std::vector<double> bias_sums_;
};

/// One of them for every sequence and value head, so that threads never add to the same.
class GateSumTable {
 public:
  GateSumTable(const KernelProblem& problem, const KernelGradients& gradients);
  [[nodiscard]] GateSums& at(int64_t sequence, int64_t value_head) {
    return sums_[static_cast<size_t>(sequence * heads_ + value_head)];
  }
  [[nodiscard]] bool with_bias() const { return !bias_sums_.empty(); }
  void add(int64_t sequence, int64_t value_head, const GateSums& summand);
  /// Writes dA_log and ddt_bias: the sums of all sequences in their order.
  void finish(const KernelGradients& gradients) const;

 private:
  int64_t heads_;
  int64_t sequences_;
  size_t K_;
  std::vector<GateSums> sums_;
  std::vector<double> bias_sums_;
};

template <class T>
class Epilogue {
 public:
  Epilogue(const KernelProblem& problem, const KernelInputs& inputs, const KernelGradients& gradients);

  // Rows as in Prologue.

  /// dq [16, Kp], with respect to q [16, Kp] that Prologue::queries gave together with `norm` [16], summed over the
  /// value heads of the group.
  void queries(const Place& place, int64_t head, const T* q, const T* norm, const T* dq) const;
  void keys(const Place& place, int64_t head, const T* k, const T* norm, const T* dk) const;
  /// dg [16, Kp] with respect to the log decay; adds to `sums`. The logits are read again.
  void log_decays(const Place& place, int64_t value_head, const T* dg, GateSums& sums) const;
  void betas(const Place& place, int64_t value_head, const T* dbeta) const;
  /// Columns [first, first + columns) of dv.
  void values(const Place& place, int64_t value_head, int64_t first, int64_t columns, const T* dv, int64_t ld) const;

 private:
  void norm_rows(const RowWriter<T>& writer, const Place& place, int64_t head, double factor, const T* y, const T* norm,
                 const T* dy) const;

  const KernelProblem& problem_;
  const KernelInputs& inputs_;
  Sizes<T> size_;
  RowReader<T> g_;
  RowReader<T> beta_;
  RowWriter<T> dq_;
  RowWriter<T> dk_;
  RowWriter<T> dv_;
  RowWriter<T> dg_;
  RowWriter<T> dbeta_;
};

}  // namespace deltatape::cpu::kda
