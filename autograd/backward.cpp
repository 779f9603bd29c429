#include "autograd/backward.h"

#include <algorithm>
#include <cmath>
#include <queue>
#include <unordered_map>
#include <unordered_set>

#include "autograd/accumulate.h"
#include "autograd/grad_mode.h"
#include "backends/backend.h"

namespace deltatape {
namespace {

// A node that gradients have reached, with their sums per output.
struct Pending {
  Ref<Node> node;
  std::vector<Tensor> gradients;
};

struct QueueEntry {
  int64_t depth;
  int64_t order;  // of discovery, so that the walk is the same every time
  Node* node;
  bool operator<(const QueueEntry& other) const {
    return depth != other.depth ? depth < other.depth : order > other.order;
  }
};

bool all_finite(const Tensor& tensor) {
  const std::vector<double> values = tensor.to_vector<double>();
  return std::all_of(values.begin(), values.end(), [](double value) { return std::isfinite(value); });
}

void check_gradient(const Node& producer, std::string_view rule, size_t input, const Tensor& gradient,
                    const OutputInfo& expected) {
  if (gradient.shape() == expected.shape && gradient.dtype() == expected.dtype && gradient.device() == expected.device)
      [[likely]] {
    return;
  }
  fail("backward", "the rule of '{}' returned {} for input {} (made by '{}'), expected {}{} {}", rule,
       describe(gradient), input, producer.name(), expected.dtype, expected.shape, expected.device);
}

// One backward pass. Nodes run from deep to shallow, each after all of its users; leaves, of depth 0, come last, so a
// pass that throws has not changed any of them.
class Pass {
 public:
  Pass(std::string_view function, const BackwardOptions& options)
      : function_(function), options_(options), retain_(options.retain_graph.value_or(options.create_graph)) {}

  void add_root(const Tensor& output, const Tensor& gradient) {
    check(output.defined(), function_, "an output is undefined, expected a tensor");
    check(output.requires_grad(), function_,
          "an output ({}) has no history: no op that made it was recorded with an input that requires a gradient",
          describe(output));
    Tensor start = gradient;
    if (!start.defined()) {
      check(output.numel() == 1, function_, "an output has shape {}, expected one element where no gradient is given",
            output.shape());
      start = empty(output.shape(), output.options());
      backend_of(output).fill(1.0, start);
    }
    check(start.shape() == output.shape() && start.dtype() == output.dtype() && start.device() == output.device(),
          function_, "the gradient of an output is {}, expected {}", describe(start), describe(output));
    const Edge edge = edge_to(output);
    roots_.push_back(edge);
    deliver(edge, start);
  }

  // Restricts the pass to what leads to these targets, and collects gradients there instead of in the leaves.
  void set_targets(std::span<const Edge> targets, TargetMode mode) {
    targets_ = targets;
    captured_.resize(targets.size());
    restricted_ = true;
    std::vector<Node*> found;
    std::vector<Node*> stack;
    auto visit = [&](Node* node) {
      if (leads_.emplace(node, false).second) {
        found.push_back(node);
        stack.push_back(node);
      }
    };
    for (const Edge& target : targets) {
      is_target_.insert(target.node.get());
    }
    for (const Edge& root : roots_) {
      visit(root.node.get());
    }
    while (!stack.empty()) {
      Node* node = stack.back();
      stack.pop_back();
      if (mode == TargetMode::stop && is_target_.contains(node)) {
        continue;
      }
      for (const Edge& edge : node->inputs()) {
        if (edge.node) {
          visit(edge.node.get());
        }
      }
    }
    std::sort(found.begin(), found.end(), [](const Node* a, const Node* b) { return a->depth() < b->depth(); });
    for (Node* node : found) {
      if (mode == TargetMode::stop && is_target_.contains(node)) {
        continue;
      }
      leads_[node] = std::any_of(node->inputs().begin(), node->inputs().end(), [&](const Edge& edge) {
        return edge.node && (leads_[edge.node.get()] || is_target_.contains(edge.node.get()));
      });
    }
  }

  std::vector<Tensor> run() {
    const GradModeGuard mode(options_.create_graph);
    while (!queue_.empty()) {
      Node* node = queue_.top().node;
      queue_.pop();
      auto found = pending_.find(node);
      Pending work = std::move(found->second);
      pending_.erase(found);
      process(work);
    }
    for (Pending& leaf : leaves_) {  // nothing can go wrong any more
      apply_rule(leaf);
    }
    return std::move(captured_);
  }

 private:
  [[nodiscard]] bool wanted(const Edge& edge) const {
    if (!edge.node) {
      return false;
    }
    if (!restricted_) {
      return true;
    }
    const auto found = leads_.find(edge.node.get());
    return (found != leads_.end() && found->second) || is_target_.contains(edge.node.get());
  }

  void deliver(const Edge& edge, const Tensor& gradient) {
    auto [entry, fresh] = pending_.try_emplace(edge.node.get());
    Pending& pending = entry->second;
    if (fresh) {
      pending.node = edge.node;
      pending.gradients.resize(edge.node->outputs().size());
      queue_.push({edge.node->depth(), discovered_++, edge.node.get()});
    }
    Tensor& sum = pending.gradients[edge.output];
    sum = add_gradients(std::move(sum), gradient, options_.create_graph);
  }

  void run_hooks(Pending& work) {
    for (size_t h = 0; h < work.node->hooks().size(); ++h) {
      const Hook hook = work.node->hooks()[h];  // a copy: a hook may add hooks
      Tensor& gradient = work.gradients[hook.output];
      if (!*hook.active || !gradient.defined()) {
        continue;
      }
      Tensor replaced = hook.function(gradient);
      if (replaced.defined()) {
        check(replaced.shape() == gradient.shape() && replaced.dtype() == gradient.dtype() &&
                  replaced.device() == gradient.device(),
              function_, "a hook on an output of '{}' returned {}, expected {}", work.node->name(), describe(replaced),
              describe(gradient));
        gradient = std::move(replaced);
      }
    }
  }

  void process(Pending& work) {
    Node& node = *work.node;
    if (!node.hooks().empty()) {
      run_hooks(work);
    }
    for (size_t i = 0; i < work.gradients.size(); ++i) {
      if (const auto cell = node.retained_grad(static_cast<uint32_t>(i)); cell && work.gradients[i].defined()) {
        *cell = add_gradients(std::move(*cell), work.gradients[i], true);
      }
    }
    if (restricted_) {
      for (size_t t = 0; t < targets_.size(); ++t) {
        if (targets_[t].node.get() == &node) {
          captured_[t] = work.gradients[targets_[t].output];
        }
      }
      if (!leads_[&node]) {
        return;
      }
    }
    if (node.is_leaf()) {
      leaves_.push_back(std::move(work));
      return;
    }
    apply_rule(work);
  }

  void apply_rule(Pending& work) {
    Node& node = *work.node;
    check(!node.saved_is_freed(), function_,
          "what '{}' saved was freed by an earlier backward pass; pass retain_graph to keep it", node.name());
    needed_.clear();
    for (const Edge& edge : node.inputs()) {
      needed_.push_back(wanted(edge) ? 1 : 0);
    }
    const std::vector<uint8_t> needed = needed_;  // a rule may run a pass of its own
    Gradients gradients = call_rule(node, RuleContext(node, work.gradients, needed));
    work.gradients.clear();
    if (node.is_leaf()) {
      return;
    }
    if (!retain_) {
      node.free_saved();
    }
    check(gradients.size() == node.inputs().size(), function_, "the rule of '{}' returned {} gradients, expected {}",
          node.name(), gradients.size(), node.inputs().size());
    for (size_t i = 0; i < gradients.size(); ++i) {
      const Edge& edge = node.inputs()[i];
      if (needed[i] == 0 || !gradients[i].defined()) {
        continue;
      }
      check_gradient(*edge.node, node.name(), i, gradients[i], edge.node->outputs()[edge.output]);
      if (options_.detect_anomaly && !all_finite(gradients[i])) {
        fail(function_, "the gradient that '{}' returned for input {} ({}) has NaN or infinite elements", node.name(),
             i, describe(gradients[i]));
      }
      const Tensor gradient = std::move(gradients[i]);
      deliver(edge, gradient);
    }
  }

  Gradients call_rule(Node& node, const RuleContext& context) const {
    try {
      return node.apply(context);
    } catch (const Error& error) {
      fail(function_, "in the rule of '{}': {}", node.name(), error.what());
    }
  }

  std::string_view function_;
  const BackwardOptions& options_;
  bool retain_;
  bool restricted_ = false;
  int64_t discovered_ = 0;
  std::vector<Edge> roots_;
  std::span<const Edge> targets_;
  std::vector<Tensor> captured_;
  std::vector<Pending> leaves_;  // complete, and changed only when the whole pass has gone well
  std::vector<uint8_t> needed_;
  std::unordered_map<Node*, bool> leads_;  // nodes below the roots: whether a target is below them
  std::unordered_set<const Node*> is_target_;
  std::unordered_map<Node*, Pending> pending_;
  std::priority_queue<QueueEntry> queue_;
};

void add_roots(Pass& pass, std::string_view function, std::span<const Tensor> outputs,
               std::span<const Tensor> gradients) {
  check(!outputs.empty(), function, "outputs is empty, expected at least one tensor");
  check(gradients.empty() || gradients.size() == outputs.size(), function,
        "{} gradients were given for {} outputs, expected as many or none", gradients.size(), outputs.size());
  for (size_t i = 0; i < outputs.size(); ++i) {
    pass.add_root(outputs[i], gradients.empty() ? Tensor() : gradients[i]);
  }
}

}  // namespace

void backward(std::span<const Tensor> outputs, std::span<const Tensor> gradients, const BackwardOptions& options) {
  Pass pass("backward", options);
  add_roots(pass, "backward", outputs, gradients);
  pass.run();
}

std::vector<Tensor> grad_at_edges(std::span<const Tensor> outputs, std::span<const Tensor> grad_outputs,
                                  std::span<const Edge> targets, const BackwardOptions& options, TargetMode mode) {
  Pass pass("grad", options);
  add_roots(pass, "grad", outputs, grad_outputs);
  pass.set_targets(targets, mode);
  return pass.run();
}

std::vector<Tensor> grad(std::span<const Tensor> outputs, std::span<const Tensor> inputs,
                         std::span<const Tensor> grad_outputs, const BackwardOptions& options) {
  std::vector<Edge> targets;
  for (size_t i = 0; i < inputs.size(); ++i) {
    check(inputs[i].defined(), "grad", "input {} is undefined, expected a tensor", i);
    check(inputs[i].requires_grad(), "grad", "input {} ({}) does not require a gradient", i, describe(inputs[i]));
    targets.push_back(edge_to(inputs[i]));
  }
  std::vector<Tensor> gradients = grad_at_edges(outputs, grad_outputs, targets, options);
  for (size_t i = 0; i < gradients.size(); ++i) {
    check(gradients[i].defined() || options.allow_unused, "grad",
          "no output depends on input {} ({}); pass allow_unused to get an undefined gradient", i, describe(inputs[i]));
  }
  return gradients;
}

Tensor grad(const Tensor& output, const Tensor& input, const Tensor& grad_output, const BackwardOptions& options) {
  return grad(std::span<const Tensor>(&output, 1), std::span<const Tensor>(&input, 1),
              std::span<const Tensor>(&grad_output, 1), options)[0];
}

void HookHandle::remove() {
  if (active_ != nullptr) {
    *active_ = false;
  }
}

}  // namespace deltatape
