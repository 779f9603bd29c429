#include "autograd/record.h"

#include <algorithm>

namespace deltatape {

const Tensor& Saved::get() const {
  if (tensor_.defined()) {
    check(tensor_.storage()->version() == version_, "Saved",
          "a tensor saved for backward ({}) was modified in place: it is at version {}, expected {}", describe(tensor_),
          tensor_.storage()->version(), version_);
  }
  return tensor_;
}

namespace detail {

bool wants_gradient(std::span<const Tensor> inputs) noexcept {
  return grad_enabled() &&
         std::any_of(inputs.begin(), inputs.end(), [](const Tensor& x) { return x.defined() && x.requires_grad(); });
}

std::vector<Edge> edges_to(std::span<const Tensor> inputs) {
  std::vector<Edge> edges;
  edges.reserve(inputs.size());
  for (const Tensor& input : inputs) {
    edges.push_back(edge_to(input));
  }
  return edges;
}

std::vector<OutputInfo> infos_of(std::span<const Tensor> outputs) {
  std::vector<OutputInfo> infos;
  infos.reserve(outputs.size());
  for (const Tensor& output : outputs) {
    infos.push_back({output.shape(), output.dtype(), output.device()});
  }
  return infos;
}

void check_fresh(std::string_view name, std::span<const Tensor> outputs) {
  for (size_t i = 0; i < outputs.size(); ++i) {
    check(!outputs[i].impl()->node, "record",
          "output {} of '{}' has history, expected a fresh tensor (detach() makes one)", i, name);
  }
}

void attach(const Ref<GraphNode>& node, std::span<Tensor> outputs) {
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (is_floating(outputs[i].dtype())) {
      TensorImpl& impl = *outputs[i].impl();
      impl.node = node;
      impl.output_index = static_cast<uint32_t>(i);
      impl.requires_grad = true;
    }
  }
}

std::vector<SavedOutput> save_outputs(std::span<const Tensor> outputs) {
  std::vector<SavedOutput> saved;
  saved.reserve(outputs.size());
  for (const Tensor& output : outputs) {
    saved.push_back({output.as_view(output.shape(), output.strides(), output.offset()), output.storage()->version()});
  }
  return saved;
}

std::vector<Tensor> restore_outputs(std::span<const SavedOutput> saved, Node* node) {
  std::vector<Tensor> outputs;
  outputs.reserve(saved.size());
  for (const SavedOutput& output : saved) {
    const Tensor& kept = output.detached;
    check(kept.storage()->version() == output.version, "Saved",
          "an output saved for backward ({}) was modified in place: it is at version {}, expected {}", describe(kept),
          kept.storage()->version(), output.version);
    outputs.push_back(kept.as_view(kept.shape(), kept.strides(), kept.offset()));
  }
  node->retain();
  attach(Ref<GraphNode>::adopt(node), outputs);
  return outputs;
}

}  // namespace detail
}  // namespace deltatape
