#include "autograd/graph_walk.h"

#include <algorithm>
#include <unordered_set>

namespace deltatape {

std::vector<Ref<Node>> nodes_behind(std::span<const Tensor> outputs) {
  std::vector<Ref<Node>> found;
  std::unordered_set<const Node*> seen;
  auto visit = [&](const Edge& edge) {
    if (edge.node && seen.insert(edge.node.get()).second) {
      found.push_back(edge.node);
    }
  };
  for (const Tensor& output : outputs) {
    visit(edge_to(output));
  }
  for (size_t i = 0; i < found.size(); ++i) {
    const Ref<Node> node = found[i];  // a copy: found grows
    for (const Edge& edge : node->inputs()) {
      visit(edge);
    }
  }
  std::stable_sort(found.begin(), found.end(),
                   [](const Ref<Node>& a, const Ref<Node>& b) { return a->depth() > b->depth(); });
  return found;
}

}  // namespace deltatape
