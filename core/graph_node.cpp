#include "core/graph_node.h"

#include <vector>

namespace deltatape {

void destroy_graph_node(GraphNode* node) noexcept {
  thread_local std::vector<GraphNode*>* pending = nullptr;
  if (pending != nullptr) {
    pending->push_back(node);
    return;
  }
  std::vector<GraphNode*> queue;
  pending = &queue;
  delete node;
  while (!queue.empty()) {
    GraphNode* next = queue.back();
    queue.pop_back();
    delete next;
  }
  pending = nullptr;
}

}  // namespace deltatape
