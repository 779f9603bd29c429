#include "nn/module.h"

#include <algorithm>

#include "autograd/grad_mode.h"
#include "nn/state.h"
#include "ops/convert.h"

namespace deltatape::nn {

void Module::check_name(const std::string& name) const {
  check(!name.empty(), name_, "a member is registered without a name");
  const auto check_against = [&](const auto& entries) {
    for (const auto& entry : entries) {
      check(entry.name != name, name_, "the name {} is registered twice", name);
      // Otherwise `a` with a member `b.c` and `a.b` with a member `c` would share a full name.
      check(!name.starts_with(entry.name + ".") && !entry.name.starts_with(name + "."), name_,
            "the name {} is registered beside {}, expected names of which none continues another", name, entry.name);
    }
  };
  check_against(parameters_);
  check_against(buffers_);
  check_against(children_);
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
    const bool tied = std::any_of(named.begin(), named.end(),
                                  [&slot](const auto& entry) { return entry.second.is_same(*slot.tensor); });
    if (!tied) {
      named.emplace_back(slot.name, *slot.tensor);
    }
  }
  return named;
}

std::vector<Tensor> Module::parameters() const {
  std::vector<Tensor> tensors;
  for (const auto& entry : named_parameters()) {
    tensors.push_back(entry.second);
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
  for (const Tensor& parameter : parameters()) {
    count += parameter.numel();
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
  const std::vector<Slot> slots = all(&Module::parameters_);
  for (const Tensor& before : parameters()) {
    Tensor after = change(before.detach());
    after.set_requires_grad(before.requires_grad());
    for (const Slot& slot : slots) {  // tied parameters stay tied
      if (slot.tensor->is_same(before)) {
        *slot.tensor = after;
      }
    }
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
