// Node: one recorded op on the tape. Ops make nodes through record() and never touch this header's insides.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/tensor.h"

namespace deltatape {

class Node;
class RuleContext;

/// One gradient per input of an op. An undefined tensor stands for "no gradient", that is zero.
using Gradients = std::vector<Tensor>;

/// Where an input of an op came from: an output of another node, or nothing when no gradient is wanted.
struct Edge {
  Ref<Node> node;
  uint32_t output = 0;
};

/// What a gradient of this output must look like.
struct OutputInfo {
  Shape shape;
  DType dtype = DType::f32;
  Device device;
};

/// A function on a gradient that register_hook added.
struct Hook {
  uint32_t output = 0;
  std::function<Tensor(const Tensor&)> function;
  std::shared_ptr<bool> active;
};

class Node : public GraphNode {
 public:
  Node(std::string_view name, std::vector<Edge> inputs, std::vector<OutputInfo> outputs);

  /// The op's name; a string with static storage duration.
  [[nodiscard]] std::string_view name() const { return name_; }
  /// One more than the deepest input. Backward goes from deep to shallow, so a node runs after all its users.
  [[nodiscard]] int64_t depth() const { return depth_; }
  [[nodiscard]] const std::vector<Edge>& inputs() const { return inputs_; }
  [[nodiscard]] const std::vector<OutputInfo>& outputs() const { return outputs_; }
  [[nodiscard]] bool is_leaf() const { return depth_ == 0; }

  /// Runs the backward rule: one gradient per input.
  virtual Gradients apply(const RuleContext& context) = 0;
  /// Drops everything saved for backward; apply must not be called again.
  virtual void free_saved() noexcept = 0;
  [[nodiscard]] virtual bool saved_is_freed() const noexcept = 0;

  [[nodiscard]] std::vector<Hook>& hooks() { return hooks_; }
  /// The gradient of `output` that retain_grad asked for; null when it did not.
  [[nodiscard]] std::shared_ptr<Tensor> retained_grad(uint32_t output) const;
  void retain_grad(uint32_t output);

 private:
  std::string_view name_;
  int64_t depth_ = 0;
  std::vector<Edge> inputs_;
  std::vector<OutputInfo> outputs_;
  std::vector<Hook> hooks_;
  std::vector<std::pair<uint32_t, std::shared_ptr<Tensor>>> retained_;
};

/// The node of a tensor that the user asked gradients for: backward ends here and adds to `grad`.
class LeafNode final : public Node {
 public:
  explicit LeafNode(const Tensor& tensor)
      : Node("leaf", {}, {OutputInfo{tensor.shape(), tensor.dtype(), tensor.device()}}), storage_(tensor.storage()) {}
  Gradients apply(const RuleContext& context) override;
  void free_saved() noexcept override {}
  [[nodiscard]] bool saved_is_freed() const noexcept override { return false; }

  /// The memory of the tensor itself.
  [[nodiscard]] const Ref<Storage>& storage() const { return storage_; }

  Tensor grad;

 private:
  Ref<Storage> storage_;
};

/// The node behind a tensor that requires a gradient; null otherwise.
Node* node_of(const Tensor& tensor);
/// The edge to `tensor`; its node is empty when no gradient is wanted.
Edge edge_to(const Tensor& tensor);

/// What a backward rule is given.
class RuleContext {
 public:
  RuleContext(const Node& node, std::span<Tensor> gradients, std::span<const uint8_t> needed)
      : node_(node), gradients_(gradients), needed_(needed) {}

  /// The gradient of an output of the op; zeros when none arrived.
  [[nodiscard]] const Tensor& grad(size_t output) const;
  /// Whether a gradient arrived for this output.
  [[nodiscard]] bool has_grad(size_t output) const { return gradients_[output].defined(); }
  /// Whether anybody wants the gradient of this input; a rule may leave others undefined.
  [[nodiscard]] bool needs_grad(size_t input) const { return needed_[input] != 0; }

 private:
  const Node& node_;
  std::span<Tensor> gradients_;
  std::span<const uint8_t> needed_;
};

}  // namespace deltatape
