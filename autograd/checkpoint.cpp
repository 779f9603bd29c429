#include "autograd/checkpoint.h"

#include "autograd/alias.h"
#include "autograd/backward.h"
#include "autograd/grad_mode.h"
#include "autograd/graph_walk.h"
#include "autograd/record.h"

namespace deltatape {
namespace {

using Body = std::function<std::vector<Tensor>(std::span<const Tensor>)>;

// The inputs as leaves of a small graph of their own.
std::vector<Tensor> as_leaves(std::span<const Tensor> inputs) {
  std::vector<Tensor> leaves;
  for (const Tensor& input : inputs) {
    leaves.push_back(input.defined() ? input.detach() : Tensor());
    if (input.defined() && input.requires_grad()) {
      leaves.back().set_requires_grad();
    }
  }
  return leaves;
}

std::vector<Tensor> as_aliases(std::span<const Tensor> inputs) {
  std::vector<Tensor> aliases;
  aliases.reserve(inputs.size());
  for (const Tensor& input : inputs) {
    aliases.push_back(alias(input));
  }
  return aliases;
}

std::vector<Tensor> run_recorded(const Body& function, std::span<const Tensor> inputs) {
  const EnableGradGuard guard;
  return function(inputs);
}

// A tensor whose gradient is the given leaf's: it has the leaf's node and memory, so that a write to the leaf is
// noticed; its elements are not to be read, since the leaf's strides are not known.
Tensor stand_in(const Ref<Node>& node) {
  const auto& leaf = static_cast<const LeafNode&>(*node);
  auto impl = Ref<TensorImpl>::make();
  impl->storage = leaf.storage();
  impl->shape = leaf.outputs()[0].shape;
  impl->strides = Strides::filled(impl->shape.rank(), 0);
  impl->dtype = leaf.outputs()[0].dtype;
  node->retain();
  impl->node = Ref<GraphNode>::adopt(node.get());
  impl->requires_grad = true;
  return Tensor(std::move(impl));
}

// Leaves among `nodes` other than `known`: what the function captured.
std::vector<Tensor> captured_leaves(std::span<const Ref<Node>> nodes, std::span<const Tensor> known) {
  std::vector<Tensor> captured;
  for (const Ref<Node>& node : nodes) {
    bool is_known = !node->is_leaf();
    for (const Tensor& tensor : known) {
      is_known = is_known || node_of(tensor) == node.get();
    }
    if (!is_known) {
      captured.push_back(stand_in(node));
    }
  }
  return captured;
}

// Frees the nodes of the first run, deepest first. One that somebody else holds was there before: the function captured
// a tensor with a history, whose gradient would have to pass through a graph that is not the checkpoint's.
void forget(std::vector<Ref<Node>> nodes) {
  for (Ref<Node>& node : nodes) {
    check(node->is_leaf() || node->use_count() == 1, "checkpoint",
          "the function captured a tensor made by '{}', expected captured tensors to be leaves; pass it as an input",
          node->name());
    node = Ref<Node>();
  }
}

std::vector<Edge> wanted_edges(std::span<const Tensor> tensors, const RuleContext& context, size_t first) {
  std::vector<Edge> edges;
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (context.needs_grad(first + i)) {
      edges.push_back(edge_to(tensors[i]));
    }
  }
  return edges;
}

}  // namespace

std::vector<Tensor> checkpoint(const Body& function, std::span<const Tensor> inputs) {
  if (!grad_enabled()) {
    return function(inputs);
  }
  // The first run is recorded only to find out what the function captured, then forgotten.
  const std::vector<Tensor> leaves = as_leaves(inputs);
  std::vector<Tensor> results = function(leaves);
  std::vector<Tensor> sources(inputs.begin(), inputs.end());
  std::vector<Ref<Node>> nodes = nodes_behind(results);
  for (Tensor& captured : captured_leaves(nodes, leaves)) {
    sources.push_back(std::move(captured));
  }
  std::vector<Tensor> outputs;
  outputs.reserve(results.size());
  for (const Tensor& result : results) {
    outputs.push_back(result.detach());
  }
  results.clear();
  forget(std::move(nodes));

  std::vector<Saved> saved;
  saved.reserve(inputs.size());
  for (const Tensor& input : inputs) {
    saved.emplace_back(input);
  }
  std::vector<Saved> captured;
  for (size_t i = inputs.size(); i < sources.size(); ++i) {
    captured.emplace_back(sources[i]);
  }
  const size_t count = outputs.size();
  record_all("checkpoint", outputs, sources,
             [function, saved = std::move(saved), captured = std::move(captured), count](const RuleContext& c) {
               const bool twice = grad_enabled();
               std::vector<Tensor> again;
               for (const Saved& input : saved) {
                 again.push_back(input.get());
               }
               again = twice ? as_aliases(again) : as_leaves(again);
               const std::vector<Tensor> recomputed = run_recorded(function, again);
               std::vector<Tensor> roots;
               std::vector<Tensor> grads;
               for (size_t i = 0; i < count; ++i) {
                 if (c.has_grad(i) && recomputed[i].requires_grad()) {
                   roots.push_back(recomputed[i]);
                   grads.push_back(c.grad(i));
                 }
               }
               std::vector<Edge> targets = wanted_edges(again, c, 0);
               std::vector<Tensor> parameters;
               parameters.reserve(captured.size());
               for (const Saved& leaf : captured) {
                 parameters.push_back(leaf.get());
               }
               const std::vector<Edge> more = wanted_edges(parameters, c, again.size());
               targets.insert(targets.end(), more.begin(), more.end());
               std::vector<Tensor> found =
                   roots.empty() ? std::vector<Tensor>(targets.size())
                                 : grad_at_edges(roots, grads, targets, {.retain_graph = true, .create_graph = twice},
                                                 TargetMode::stop);
               Gradients all(again.size() + captured.size());
               for (size_t i = 0, next = 0; i < all.size(); ++i) {
                 if (c.needs_grad(i)) {
                   all[i] = std::move(found[next++]);
                 }
               }
               return all;
             });
  return outputs;
}

Tensor checkpoint(const std::function<Tensor(const Tensor&)>& function, const Tensor& input) {
  const Body body = [function](std::span<const Tensor> x) { return std::vector<Tensor>{function(x[0])}; };
  return checkpoint(body, std::span<const Tensor>(&input, 1))[0];
}

}  // namespace deltatape
