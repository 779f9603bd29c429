// Optimizers: they change parameters in place from the gradients that backward left in them.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "nn/module.h"

namespace deltatape::nn {

/// Base of the optimizers: which parameters, the learning rate, and the state that a checkpoint must keep.
class Optimizer {
 public:
  virtual ~Optimizer() = default;
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  /// One update from the gradients; a parameter without a gradient stays as it is. Throws Error for a gradient that
  /// does not fit. Records nothing.
  virtual void step() = 0;
  /// Clears the gradients.
  void zero_grad();

  [[nodiscard]] double learning_rate() const { return learning_rate_; }
  /// Takes effect from the next step. Throws Error unless finite and >= 0.
  void set_learning_rate(double learning_rate);

  /// Everything that the next steps depend on besides parameters and options: `step` (i64, rank 0) and tensors named
  /// `<slot>.<parameter>`. The tensors share memory with the optimizer.
  [[nodiscard]] StateDict state_dict() const;
  /// Copies what state_dict gave. Throws Error that lists missing, unexpected and mis-shaped entries, or names a
  /// step that is not an integer of at least 0.
  void load_state_dict(const StateDict& state);

 protected:
  /// `slots` names the tensors kept per parameter; they start at zero. Throws Error for a name or a tensor
  /// that occurs twice, and for a parameter that is no leaf or whose elements overlap in memory.
  Optimizer(std::string_view name, const NamedTensors& parameters, double learning_rate,
            std::vector<std::string_view> slots);

  struct Entry {
    std::string name;
    Tensor parameter;
    std::vector<Tensor> slots;  // shape and dtype of the parameter; f32 beside 16-bit ones
  };
  std::string_view name_;
  double learning_rate_;
  int64_t step_ = 0;
  std::vector<Entry> entries_;
  std::vector<std::string_view> slot_names_;
};

struct SGDOptions {
  double learning_rate = 1e-2;
  double momentum = 0.0;
  double weight_decay = 0.0;  // added to the gradient: g + weight_decay p
};

/// m = momentum m + g; p = p - lr m.
class SGD final : public Optimizer {
 public:
  SGD(const NamedTensors& parameters, const SGDOptions& options = {});
  void step() override;

 private:
  SGDOptions options_;
};

struct AdamWOptions {
  double learning_rate = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0.1;  // only for parameters with two or more dimensions
};

/// Adam with decoupled weight decay, as in PyTorch, k = 1, 2, ...:
///   p = p (1 - lr weight_decay);  m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;
///   p = p - lr / (1 - b1^k) m / (sqrt(v) / sqrt(1 - b2^k) + eps).
/// Source: Loshchilov, Hutter, "Decoupled Weight Decay Regularization", 2019.
class AdamW final : public Optimizer {
 public:
  AdamW(const NamedTensors& parameters, const AdamWOptions& options = {});
  void step() override;

 private:
  AdamWOptions options_;
};

/// sqrt of the sum of squares of all gradients; parameters without one count as 0. Accumulated in f64.
double grad_norm(std::span<const Tensor> parameters);
/// Multiplies all gradients by min(1, max_norm / (n + 1e-6)), n = grad_norm before, and returns n. When n is not finite
/// nothing changes.
double clip_grad_norm(std::span<const Tensor> parameters, double max_norm);

}  // namespace deltatape::nn
