#include "autograd/node.h"

#include <algorithm>

#include "autograd/accumulate.h"
#include "autograd/grad_mode.h"
#include "backends/backend.h"

namespace deltatape {

Node::Node(std::string_view name, std::vector<Edge> inputs, std::vector<OutputInfo> outputs)
    : name_(name), inputs_(std::move(inputs)), outputs_(std::move(outputs)) {
  int64_t deepest = -1;
  for (const Edge& edge : inputs_) {
    if (edge.node) {
      deepest = std::max(deepest, edge.node->depth());
    }
  }
  depth_ = deepest + 1;
}

std::shared_ptr<Tensor> Node::retained_grad(uint32_t output) const {
  for (const auto& [index, cell] : retained_) {
    if (index == output) {
      return cell;
    }
  }
  return nullptr;
}

void Node::retain_grad(uint32_t output) {
  if (retained_grad(output) == nullptr) {
    retained_.emplace_back(output, std::make_shared<Tensor>());
  }
}

Gradients LeafNode::apply(const RuleContext& context) {
  grad = add_to_gradient(std::move(grad), context.grad(0), grad_enabled());
  return {};
}

Node* node_of(const Tensor& tensor) {
  return tensor.defined() ? static_cast<Node*>(tensor.impl()->node.get()) : nullptr;
}

Edge edge_to(const Tensor& tensor) {
  if (!tensor.defined() || !tensor.requires_grad()) {
    return {};
  }
  Node* node = node_of(tensor);
  node->retain();
  return {Ref<Node>::adopt(node), tensor.impl()->output_index};
}

const Tensor& RuleContext::grad(size_t output) const {
  Tensor& gradient = gradients_[output];
  if (!gradient.defined()) {
    const OutputInfo& info = node_.outputs()[output];
    gradient = empty(info.shape, info.dtype, info.device);
    backend_of(info.device).fill(0.0, gradient);
  }
  return gradient;
}

}  // namespace deltatape
