// Function: an op of the user's own, with a forward and a backward written by hand.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "autograd/record.h"

namespace deltatape {

/// What a Function's forward leaves for its backward.
class FunctionContext {
 public:
  /// Keeps tensors for backward, in this order. Call it once, in forward. Inputs and outputs keep their history; a
  /// floating-point tensor computed in between has none, so backward can use it for first derivatives only: under
  /// create_graph saved() throws Error. Save inputs and compute it again where second derivatives matter.
  void save_for_backward(std::vector<Tensor> tensors);
  /// The tensors that forward saved. Throws Error when one was modified in place since.
  [[nodiscard]] std::vector<Tensor> saved() const;
  /// In backward: whether anybody wants the gradient of this input.
  [[nodiscard]] bool needs_grad(size_t input) const { return rule_ == nullptr || rule_->needs_grad(input); }

 private:
  friend std::vector<Tensor> apply_function(const std::shared_ptr<const class Function>& function,
                                            std::span<const Tensor> inputs);

  struct Kept {
    Saved tensor;
    int64_t output = -1;        // which output of the op it is; -1: none
    bool intermediate = false;  // neither input nor output, and floating point
  };
  std::vector<Tensor> to_save_;
  std::vector<Kept> kept_;
  Outputs outputs_;
  const RuleContext* rule_ = nullptr;
};

/// A user-defined differentiable op.
///
///     struct Cube : Function {
///       std::string_view name() const override { return "cube"; }
///       std::vector<Tensor> forward(FunctionContext& c, std::span<const Tensor> x) const override {
///         c.save_for_backward({x[0]});
///         return {x[0] * x[0] * x[0]};
///       }
///       Gradients backward(FunctionContext& c, std::span<const Tensor> dy) const override {
///         return {3.0 * square(c.saved()[0]) * dy[0]};
///       }
///     };
///     Tensor y = apply_function(std::make_shared<Cube>(), {x})[0];
class Function {
 public:
  virtual ~Function() = default;
  /// A string with static storage duration, for messages and graphs.
  [[nodiscard]] virtual std::string_view name() const = 0;
  /// Computes the outputs; nothing in here is recorded.
  [[nodiscard]] virtual std::vector<Tensor> forward(FunctionContext& context, std::span<const Tensor> inputs) const = 0;
  /// One gradient per input from one gradient per output (zeros where none arrived). What it computes is recorded when
  /// a second derivative is asked for, so with ops in it the second derivative is right.
  [[nodiscard]] virtual Gradients backward(FunctionContext& context, std::span<const Tensor> grads) const = 0;
};

/// Runs `function` on `inputs` and records it as one op.
std::vector<Tensor> apply_function(const std::shared_ptr<const Function>& function, std::span<const Tensor> inputs);
std::vector<Tensor> apply_function(const std::shared_ptr<const Function>& function,
                                   std::initializer_list<Tensor> inputs);

}  // namespace deltatape
