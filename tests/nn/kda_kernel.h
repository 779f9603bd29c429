// Which KDA kernel made a result: tests that mean a fused one fail when the composed form ran.
#pragma once

#include <array>
#include <string>

#include "autograd/graph_walk.h"
#include "ops/kda/plan.h"

namespace deltatape::test {

/// The name of the fused kernel's node on the tape behind y, or "composed".
inline std::string kernel_behind(const Tensor& y) {
  const std::array<Tensor, 1> outputs{y};
  for (const Ref<Node>& node : nodes_behind(outputs)) {
    if (node->name().rfind("kda::fused", 0) == 0) {
      return std::string(node->name());
    }
  }
  return "composed";
}

/// What kernel_behind must say after `implementation` has run on sequences of `length` tokens.
inline std::string expected_kernel(kda::Implementation implementation, int64_t length) {
  switch (implementation) {
    case kda::Implementation::automatic:
      return length < 8 ? "kda::fused_recurrent" : "kda::fused_chunk";
    case kda::Implementation::fused_recurrent:
      return "kda::fused_recurrent";
    case kda::Implementation::fused_chunk:
      return "kda::fused_chunk";
    default:
      return "composed";
  }
}

}  // namespace deltatape::test
