#include "nn/optimizer.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "autograd/grad_mode.h"
#include "backends/backend.h"
#include "nn/state.h"
#include "ops/arithmetic.h"
#include "ops/convert.h"
#include "ops/creation.h"
#include "ops/inplace.h"
#include "ops/overlap.h"

namespace deltatape::nn {
namespace {

void check_rate(std::string_view function, double learning_rate) {
  check(std::isfinite(learning_rate) && learning_rate >= 0.0, function,
        "learning_rate is {}, expected a finite number of at least 0", learning_rate);
}

void check_fraction(std::string_view function, std::string_view option, double value) {
  check(value >= 0.0 && value < 1.0, function, "{} is {}, expected 0 <= {} < 1", option, value, option);
}

void check_at_least_zero(std::string_view function, std::string_view option, double value) {
  check(std::isfinite(value) && value >= 0.0, function, "{} is {}, expected a finite number of at least 0", option,
        value);
}

/// The same updates, those of each device together.
std::vector<std::vector<AdamWUpdate>> by_device(std::vector<AdamWUpdate> updates) {
  std::vector<std::vector<AdamWUpdate>> groups;
  for (AdamWUpdate& update : updates) {
    const auto same = [&](const std::vector<AdamWUpdate>& group) {
      return group.front().parameter.device() == update.parameter.device();
    };
    auto group = std::find_if(groups.begin(), groups.end(), same);
    if (group == groups.end()) {
      group = groups.insert(groups.end(), std::vector<AdamWUpdate>());
    }
    group->push_back(std::move(update));
  }
  return groups;
}

/// Moments are kept in f32 beside 16-bit parameters.
DType moment_dtype(DType dtype) { return dtype == DType::f64 ? DType::f64 : DType::f32; }

}  // namespace

Optimizer::Optimizer(std::string_view name, const NamedTensors& parameters, double learning_rate,
                     std::vector<std::string_view> slots)
    : name_(name), learning_rate_(learning_rate), slot_names_(std::move(slots)) {
  check_rate(name, learning_rate);
  StateDict seen;
  for (const auto& [parameter_name, parameter] : parameters) {
    check(parameter.defined() && parameter.is_leaf() && parameter.requires_grad(), name,
          "parameter {} is no leaf that requires a gradient", parameter_name);
    check(elements_are_distinct(parameter), name,
          "parameter {} has shape {} and strides {}, expected elements that do not overlap in memory", parameter_name,
          parameter.shape(), parameter.strides());
    check(seen.emplace(parameter_name, parameter).second, name, "the name {} occurs twice", parameter_name);
    for (const Entry& other : entries_) {
      check(!other.parameter.is_same(parameter), name, "parameters {} and {} are the same tensor, expected it once",
            other.name, parameter_name);
    }
    Entry entry{parameter_name, parameter, {}};
    for (size_t i = 0; i < slot_names_.size(); ++i) {
      entry.slots.push_back(zeros(parameter.shape(), {moment_dtype(parameter.dtype()), parameter.device()}));
    }
    entries_.push_back(std::move(entry));
  }
}

void Optimizer::zero_grad() {
  for (Entry& entry : entries_) {
    entry.parameter.zero_grad();
  }
}

void Optimizer::set_learning_rate(double learning_rate) {
  check_rate(name_, learning_rate);
  learning_rate_ = learning_rate;
}

StateDict Optimizer::state_dict() const {
  StateDict state;
  state.emplace("step", full({}, static_cast<double>(step_), {DType::i64, Device::cpu()}));
  for (const Entry& entry : entries_) {
    for (size_t i = 0; i < slot_names_.size(); ++i) {
      state.emplace(fmt::format("{}.{}", slot_names_[i], entry.name), entry.slots[i]);
    }
  }
  return state;
}

void Optimizer::load_state_dict(const StateDict& state) {
  const StateDict own = state_dict();
  const std::string function = std::string(name_) + "::load_state_dict";
  if (const auto found = state.find("step");
      found != state.end() && found->second.defined() && found->second.shape() == own.at("step").shape()) {
    const double step = found->second.item();
    check(step >= 0.0 && step < 0x1p53 && step == std::floor(step), function,
          "step is {}, expected an integer of at least 0", step);
  }
  copy_state(function, own, state, true);
  step_ = static_cast<int64_t>(own.at("step").item());
}

SGD::SGD(const NamedTensors& parameters, const SGDOptions& options)
    : Optimizer("SGD", parameters, options.learning_rate,
                options.momentum != 0.0 ? std::vector<std::string_view>{"momentum"} : std::vector<std::string_view>{}),
      options_(options) {
  check_fraction(name_, "momentum", options.momentum);
  check_at_least_zero(name_, "weight_decay", options.weight_decay);
}

void SGD::step() {
  const NoGradGuard guard;
  ++step_;
  for (Entry& entry : entries_) {
    Tensor g = entry.parameter.grad();
    if (!g.defined()) {
      continue;
    }
    g = g.detach();
    if (options_.weight_decay != 0.0) {
      g = add(g, mul(entry.parameter.detach(), options_.weight_decay));
    }
    if (!entry.slots.empty()) {
      Tensor& m = entry.slots[0];
      mul_(m, options_.momentum);
      add_(m, g);
      g = m;
    }
    add_(entry.parameter, g, -learning_rate_);
  }
}

AdamW::AdamW(const NamedTensors& parameters, const AdamWOptions& options)
    : Optimizer("AdamW", parameters, options.learning_rate, {"exp_avg", "exp_avg_sq"}), options_(options) {
  check_fraction(name_, "beta1", options.beta1);
  check_fraction(name_, "beta2", options.beta2);
  check_at_least_zero(name_, "eps", options.eps);
  check_at_least_zero(name_, "weight_decay", options.weight_decay);
}

void AdamW::step() {
  const NoGradGuard guard;
  ++step_;
  const auto k = static_cast<double>(step_);
  AdamWStep step{};
  step.beta1 = options_.beta1;
  step.beta2 = options_.beta2;
  step.eps = options_.eps;
  step.rate = learning_rate_ / (1.0 - std::pow(options_.beta1, k));
  step.root_correction2 = std::sqrt(1.0 - std::pow(options_.beta2, k));
  struct Strided {
    Tensor parameter;
    Tensor dense;
  };
  std::vector<Strided> strided;
  std::vector<AdamWUpdate> updates;
  for (Entry& entry : entries_) {
    const Tensor& p = entry.parameter;
    if (!p.grad().defined()) {
      continue;
    }
    const Tensor dense = contiguous(p.detach());  // p's own memory, unless it is strided
    if (dense.storage() != p.storage()) {
      strided.push_back({p, dense});
    }
    for (const Tensor& changed : {dense, entry.slots[0], entry.slots[1]}) {
      changed.storage()->bump_version();
    }
    const double decay = p.rank() >= 2 ? 1.0 - learning_rate_ * options_.weight_decay : 1.0;
    updates.push_back({contiguous(p.grad().detach()), dense, entry.slots[0], entry.slots[1], decay});
  }
  for (const auto& on_device : by_device(std::move(updates))) {
    backend_of(on_device.front().parameter).adamw(on_device, step);
  }
  for (Strided& copied : strided) {
    copy_(copied.parameter, copied.dense);
  }
}

}  // namespace deltatape::nn
