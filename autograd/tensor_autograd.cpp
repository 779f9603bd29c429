// Tensor's autograd methods.
#include "autograd/backward.h"
#include "autograd/record.h"
#include "core/tensor.h"

namespace deltatape {
namespace {

LeafNode* leaf_node(const Tensor& tensor) {
  Node* node = node_of(tensor);
  return node != nullptr && node->is_leaf() ? static_cast<LeafNode*>(node) : nullptr;
}

}  // namespace

bool Tensor::is_leaf() const {
  const Node* node = node_of(*this);
  return node == nullptr || node->is_leaf();
}

Tensor& Tensor::set_requires_grad(bool value) {
  check(defined(), "set_requires_grad", "the tensor is undefined");
  check(is_leaf(), "set_requires_grad", "the tensor was made by '{}', expected a leaf; detach it first",
        is_leaf() ? "" : node_of(*this)->name());
  check(!value || is_floating(dtype()), "set_requires_grad", "the tensor has dtype {}, expected a floating-point dtype",
        dtype());
  if (value && !impl_->node) {
    impl_->node = Ref<GraphNode>::adopt(new LeafNode(*this));
    impl_->output_index = 0;
  }
  impl_->requires_grad = value;
  return *this;
}

Tensor Tensor::grad() const {
  check(defined(), "Tensor::grad", "the tensor is undefined");
  if (const LeafNode* leaf = leaf_node(*this)) {
    return leaf->grad;
  }
  if (const Node* node = node_of(*this)) {
    const auto cell = node->retained_grad(impl_->output_index);
    return cell != nullptr ? *cell : Tensor();
  }
  return {};
}

void Tensor::set_grad(const Tensor& grad) {
  check(defined(), "set_grad", "the tensor is undefined");
  LeafNode* leaf = leaf_node(*this);
  if (leaf == nullptr && !grad.defined()) {
    if (const Node* node = node_of(*this)) {
      if (const auto cell = node->retained_grad(impl_->output_index)) {
        *cell = Tensor();
      }
    }
    return;
  }
  check(leaf != nullptr, "set_grad", "the tensor is not a leaf that requires a gradient, expected one");
  check(!grad.defined() || (grad.shape() == shape() && grad.dtype() == dtype() && grad.device() == device()),
        "set_grad", "grad is {}, expected {}", describe(grad), describe(*this));
  leaf->grad = grad;
}

void Tensor::retain_grad() {
  check(defined() && requires_grad(), "retain_grad", "the tensor does not require a gradient");
  if (!is_leaf()) {
    node_of(*this)->retain_grad(impl_->output_index);
  }
}

HookHandle Tensor::register_hook(std::function<Tensor(const Tensor&)> hook) {
  check(defined() && requires_grad(), "register_hook", "the tensor does not require a gradient");
  check(hook != nullptr, "register_hook", "hook is null, expected a function");
  auto active = std::make_shared<bool>(true);
  node_of(*this)->hooks().push_back({impl_->output_index, std::move(hook), active});
  return HookHandle(active);
}

Tensor Tensor::detach() const {
  check(defined(), "detach", "the tensor is undefined");
  return as_view(shape(), strides(), offset());
}

void Tensor::backward(const Tensor& gradient) const { backward(gradient, {}); }

void Tensor::backward(const Tensor& gradient, const BackwardOptions& options) const {
  deltatape::backward(std::span<const Tensor>(this, 1), std::span<const Tensor>(&gradient, 1), options);
}

}  // namespace deltatape
