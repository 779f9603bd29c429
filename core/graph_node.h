// What core knows of the autograd tape: a tensor may hold a reference to a node of it, and no more.
#pragma once

#include <concepts>

#include "core/ref_counted.h"

namespace deltatape {

/// Base of autograd's Node.
class GraphNode : public RefCounted {
 public:
  virtual ~GraphNode() = default;
};

/// Deletes a node without recursion: nodes that lose their last reference meanwhile wait in a queue of the thread, so
/// that a chain of any length can be freed.
void destroy_graph_node(GraphNode* node) noexcept;

/// What Ref calls for nodes of every type, in place of a plain delete.
template <std::derived_from<GraphNode> T>
void destroy(T* node) noexcept {
  destroy_graph_node(node);
}

}  // namespace deltatape
