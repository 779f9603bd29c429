// record(): how an op puts itself on the tape.
#pragma once

#include <concepts>
#include <initializer_list>
#include <optional>
#include <type_traits>
#include <utility>

#include "autograd/grad_mode.h"
#include "autograd/node.h"

namespace deltatape {

/// A tensor kept for backward. It converts to the tensor, and throws Error when the memory was written to meanwhile.
class Saved {
 public:
  Saved() = default;
  explicit Saved(Tensor tensor)
      : tensor_(std::move(tensor)), version_(tensor_.defined() ? tensor_.storage()->version() : 0) {}

  /// The tensor, with its history. Throws Error when it was modified in place after it was saved.
  [[nodiscard]] const Tensor& get() const;
  operator const Tensor&() const {
    return get();
  }  // NOLINT(google-explicit-constructor): a rule reads like its formula

 private:
  Tensor tensor_;
  uint32_t version_ = 0;
};

/// The outputs of an op as its rule sees them; they are part of the graph, so second derivatives work.
using Outputs = std::span<const Tensor>;

/// A backward rule is called with the context, and with the op's outputs when its second parameter asks for them.
template <class Rule>
concept RuleOnInputs = std::is_invocable_r_v<Gradients, Rule&, const RuleContext&>;
template <class Rule>
concept RuleOnOutputs = std::is_invocable_r_v<Gradients, Rule&, const RuleContext&, Outputs>;

namespace detail {

bool wants_gradient(std::span<const Tensor> inputs) noexcept;
std::vector<Edge> edges_to(std::span<const Tensor> inputs);
std::vector<OutputInfo> infos_of(std::span<const Tensor> outputs);
/// Throws Error when an output is part of the tape already: an input's own handle, say.
void check_fresh(std::string_view name, std::span<const Tensor> outputs);
/// Makes the tensors outputs of `node`. Integer outputs stay without gradient.
void attach(const Ref<GraphNode>& node, std::span<Tensor> outputs);

/// An output kept by its own node: without the node, or the two would keep each other alive.
struct SavedOutput {
  Tensor detached;
  uint32_t version = 0;
};
std::vector<SavedOutput> save_outputs(std::span<const Tensor> outputs);
std::vector<Tensor> restore_outputs(std::span<const SavedOutput> saved, Node* node);

template <class Rule>
class RuleNode final : public Node {
 public:
  RuleNode(std::string_view name, std::vector<Edge> inputs, std::span<const Tensor> outputs, Rule rule)
      : Node(name, std::move(inputs), infos_of(outputs)), rule_(std::move(rule)) {
    if constexpr (RuleOnOutputs<Rule>) {
      saved_ = save_outputs(outputs);
    }
  }

  Gradients apply(const RuleContext& context) override {
    if constexpr (RuleOnOutputs<Rule>) {
      const std::vector<Tensor> outputs = restore_outputs(saved_, this);
      return (*rule_)(context, Outputs(outputs));
    } else {
      return (*rule_)(context);
    }
  }
  void free_saved() noexcept override {
    rule_.reset();
    saved_.clear();
  }
  [[nodiscard]] bool saved_is_freed() const noexcept override { return !rule_.has_value(); }

 private:
  std::optional<Rule> rule_;
  std::vector<SavedOutput> saved_;
};

}  // namespace detail

/// Records an op with several outputs: when a gradient is wanted for any of `inputs`, `outputs` become part of the
/// tape.
///
/// `name` is the op's name, a string literal. `outputs` are fresh tensors (never an input's own handle). `rule` returns
/// one gradient per input. It captures inputs as Saved and must not capture outputs (a cycle, hence a leak): a rule
/// that needs them takes them as its second parameter. The engine checks shape, dtype and device of every gradient.
template <class Rule>
void record_all(std::string_view name, std::span<Tensor> outputs, std::span<const Tensor> inputs, Rule&& rule) {
  static_assert(RuleOnInputs<std::decay_t<Rule>> || RuleOnOutputs<std::decay_t<Rule>>,
                "a rule is called with (const RuleContext&) or (const RuleContext&, Outputs) and returns Gradients");
  if (!detail::wants_gradient(inputs)) {
    return;
  }
  detail::check_fresh(name, outputs);
  auto* node =
      new detail::RuleNode<std::decay_t<Rule>>(name, detail::edges_to(inputs), outputs, std::forward<Rule>(rule));
  detail::attach(Ref<GraphNode>::adopt(node), outputs);
}

/// Records an op with one output and returns it. See record_all.
template <class Rule>
Tensor record(std::string_view name, Tensor output, std::span<const Tensor> inputs, Rule&& rule) {
  record_all(name, std::span<Tensor>(&output, 1), inputs, std::forward<Rule>(rule));
  return output;
}
template <class Rule>
Tensor record(std::string_view name, Tensor output, std::initializer_list<Tensor> inputs, Rule&& rule) {
  return record(name, std::move(output), std::span<const Tensor>(inputs.begin(), inputs.size()),
                std::forward<Rule>(rule));
}

}  // namespace deltatape
