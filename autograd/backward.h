// Walking the tape: backward() into the leaves, grad() for chosen tensors.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "autograd/node.h"
#include "core/tensor.h"

namespace deltatape {

/// Options of backward() and grad().
struct BackwardOptions {
  /// Keep what ops saved, so that the same graph can be walked again. Default: as create_graph.
  std::optional<bool> retain_graph = std::nullopt;
  /// Record the backward pass itself, for higher derivatives. With backward() a leaf then holds a gradient whose graph
  /// leads back to the leaf, and the two keep each other alive until zero_grad(); grad() makes no such cycle.
  bool create_graph = false;
  /// After every rule look for NaN and infinity, and throw Error that names the first op whose gradient has one.
  bool detect_anomaly = false;
  /// grad() only: an input that the outputs do not depend on gives an undefined tensor instead of an Error.
  bool allow_unused = false;
};

/// Adds the gradients of sum_i <outputs[i], gradients[i]> to `grad()` of every leaf.
///
/// An undefined entry of `gradients`, or an empty list, stands for 1 and needs an output with one element. Every other
/// entry has its output's shape, dtype and device. Throws Error when an output has no history, when a gradient does not
/// fit, when the graph was freed by an earlier pass, when a saved tensor was modified in place, or when a rule returns
/// a gradient that is not like its input. No leaf has changed when it throws, but part of the
/// graph may have been freed.
void backward(std::span<const Tensor> outputs, std::span<const Tensor> gradients = {},
              const BackwardOptions& options = {});

/// The gradients of sum_i <outputs[i], grad_outputs[i]> with respect to `inputs` (leaves or not), one per input; no
/// leaf's `grad()` changes. Arguments and errors as for backward.
std::vector<Tensor> grad(std::span<const Tensor> outputs, std::span<const Tensor> inputs,
                         std::span<const Tensor> grad_outputs = {}, const BackwardOptions& options = {});
/// For one output and one input.
Tensor grad(const Tensor& output, const Tensor& input, const Tensor& grad_output = Tensor(),
            const BackwardOptions& options = {});

/// What happens at a target that other targets depend on.
enum class TargetMode : uint8_t {
  pass_through,  // the gradient flows on to targets behind it
  stop,          // it ends there: targets count as independent
};

/// As grad, for the ends of edges instead of tensors; the gradient at an edge nothing flows to is undefined. With
/// TargetMode::stop every target is a leaf or the only output of its node.
std::vector<Tensor> grad_at_edges(std::span<const Tensor> outputs, std::span<const Tensor> grad_outputs,
                                  std::span<const Edge> targets, const BackwardOptions& options,
                                  TargetMode mode = TargetMode::pass_through);

/// Removes a hook that Tensor::register_hook added.
class HookHandle {
 public:
  HookHandle() = default;
  explicit HookHandle(std::shared_ptr<bool> active) : active_(std::move(active)) {}
  void remove();

 private:
  std::shared_ptr<bool> active_;
};

}  // namespace deltatape
