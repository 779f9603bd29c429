#include "nn/module.h"

#include "autograd/grad_mode.h"
#include "nn/state.h"
#include "ops/convert.h"

namespace deltatape::nn {

void Module::check_name(const std::string& name) const {
  check(!name.empty(), name_, "a member is registered without a name");
  const auto taken = [&name](const auto& entries) {
    for (const auto& entry : entries) {
      if (entry.name == name) {
        return true;
      }
    }
    return false;
  };
  check(!taken(parameters_) && !taken(buffers_) && !taken(children_), name_, "the name {} is registered twice", name);
}

void Module::register_parameter(std::string name, Tensor& parameter) {
  check_name(name);
  check(parameter.defined() && is_floating(parameter.dtype()), name_,
        "parameter {} is {}, expected a floating-point tensor", name,
        parameter.defined() ? describe(parameter) : "undefined");
  parameter.set_requires_grad();
  parameters_.push_back({std::move(name), &parameter});
}

void Module::register_buffer(std::string name, Tensor& buffer) {
  check_name(name);
  check(buffer.defined(), name_, "buffer {} is undefined, expected a tensor", name);
  buffers_.push_back({std::move(name), &buffer});
}

void Module::register_module(std::string name, Module& module) {
  check_name(name);
  children_.push_back({std::move(name), &module});
}

void Module::collect(const std::string& prefix, std::vector<Slot> Module::*slots, std::vector<Slot>& out) const {
  for (const Slot& slot : this->*slots) {
    out.push_back({prefix + slot.name, slot.tensor});
  }
  for (const Child& child : children_) {
    child.module->collect(prefix + child.name + ".", slots, out);
  }
}

std::vector<Module::Slot> Module::all(std::vector<Slot> Module::*slots) const {
  std::vector<Slot> out;
  collect("", slots, out);
  return out;
}

NamedTensors Module::named_parameters() const {
  NamedTensors named;
  for (const Slot& slot : all(&Module::parameters_)) {
    named.emplace_back(slot.name, *slot.tensor);
  }
  return named;
}

std::vector<Tensor> Module::parameters() const {
  std::vector<Tensor> tensors;
  for (const Slot& slot : all(&Module::parameters_)) {
    tensors.push_back(*slot.tensor);
  }
  return tensors;
}

NamedTensors Module::named_buffers() const {
  NamedTensors named;
  for (const Slot& slot : all(&Module::buffers_)) {
    named.emplace_back(slot.name, *slot.tensor);
  }
  return named;
}

int64_t Module::num_parameters() const {
  int64_t count = 0;
  for (const Slot& slot : all(&Module::parameters_)) {
    count += slot.tensor->numel();
  }
  return count;
}

StateDict Module::state_dict() const {
  StateDict state;
  for (auto slots : {&Module::parameters_, &Module::buffers_}) {
    for (const Slot& slot : all(slots)) {
      state.emplace(slot.name, slot.tensor->detach());
    }
  }
  return state;
}

void Module::load_state_dict(const StateDict& state, bool strict) {
  copy_state(std::string(name_) + "::load_state_dict", state_dict(), state, strict);
}

void Module::train(bool mode) {
  training_ = mode;
  for (const Child& child : children_) {
    child.module->train(mode);
  }
}

void Module::zero_grad() {
  for (const Slot& slot : all(&Module::parameters_)) {
    slot.tensor->zero_grad();
  }
}

template <class Convert>
void Module::convert(const Convert& change) {
  const NoGradGuard guard;
  for (const Slot& slot : all(&Module::buffers_)) {
    *slot.tensor = change(*slot.tensor);
  }
  for (const Slot& slot : all(&Module::parameters_)) {
    const bool trained = slot.tensor->requires_grad();
    *slot.tensor = change(slot.tensor->detach());
    slot.tensor->set_requires_grad(trained);
  }
}

void Module::to(DType dtype) {
  check(is_floating(dtype), name_, "to(dtype) got {}, expected a floating-point dtype", dtype);
  convert([dtype](const Tensor& x) { return is_floating(x.dtype()) ? deltatape::to(x, dtype) : x; });
}

void Module::to(Device device) {
  convert([device](const Tensor& x) { return deltatape::to(x, device); });
}

}  // namespace deltatape::nn
