#include "harness/case.h"

#include "ops/convert.h"

namespace deltatape::harness {
namespace {

NamedTensors widened(const NamedTensors& tensors) {
  NamedTensors wide;
  wide.reserve(tensors.size());
  for (const auto& [name, tensor] : tensors) {
    const Tensor host = to(tensor.detach(), Device::cpu());
    wide.emplace_back(name, is_floating(host.dtype()) ? to(host, DType::f64) : host);
  }
  return wide;
}

}  // namespace

Tensor find(const NamedTensors& tensors, std::string_view name) {
  for (const auto& named : tensors) {
    if (named.first == name) {
      return named.second;
    }
  }
  return {};
}

Case widened(const Case& c) {
  return {.settings = c.settings, .dtype = DType::f64, .inputs = widened(c.inputs), .upstream = widened(c.upstream)};
}

}  // namespace deltatape::harness
