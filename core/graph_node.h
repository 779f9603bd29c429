// What core knows of the autograd tape: a tensor may hold a reference to a node of it, and no more.
#pragma once

#include "core/ref_counted.h"

namespace deltatape {

/// Base of autograd's Node.
class GraphNode : public RefCounted {
 public:
  virtual ~GraphNode() = default;
};

/// Deletes a node without recursion: nodes that lose their last reference meanwhile wait in a queue of the thread, so
/// that a chain of any length can be freed.
void destroy(GraphNode* node) noexcept;

}  // namespace deltatape
