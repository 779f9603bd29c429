#include "autograd/graph_export.h"

#include <unordered_map>

#include "autograd/graph_walk.h"

namespace deltatape {

std::string to_dot(const Tensor& output) {
  check(output.defined(), "to_dot", "output is undefined, expected a tensor");
  const std::vector<Ref<Node>> nodes = nodes_behind(std::span<const Tensor>(&output, 1));
  std::unordered_map<const Node*, size_t> number;
  std::string text = "digraph tape {\n  node [fontname=\"Helvetica\", fontsize=11];\n";
  for (size_t i = 0; i < nodes.size(); ++i) {
    number[nodes[i].get()] = i;
    std::string label(nodes[i]->name());
    for (const OutputInfo& info : nodes[i]->outputs()) {
      label += fmt::format("\\n{}{}", info.dtype, info.shape);
    }
    text += fmt::format("  n{} [label=\"{}\", shape={}];\n", i, label, nodes[i]->is_leaf() ? "ellipse" : "box");
  }
  for (size_t i = 0; i < nodes.size(); ++i) {
    for (const Edge& edge : nodes[i]->inputs()) {
      if (edge.node) {
        text += fmt::format("  n{} -> n{};\n", number.at(edge.node.get()), i);
      }
    }
  }
  return text + "}\n";
}

}  // namespace deltatape
