// Visiting the tape behind a tensor.
#pragma once

#include <span>
#include <vector>

#include "autograd/node.h"

namespace deltatape {

/// All nodes that lead to `outputs`, leaves included, deepest first; the order is the same every time.
std::vector<Ref<Node>> nodes_behind(std::span<const Tensor> outputs);

}  // namespace deltatape
