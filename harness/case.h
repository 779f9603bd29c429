// One case: what was drawn, and the tensors that it stands for.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/tensor.h"
#include "harness/settings.h"

namespace deltatape::harness {

/// Tensors by name, in the order in which they are shown.
using NamedTensors = std::vector<std::pair<std::string, Tensor>>;

/// The tensor of this name; undefined when there is none.
Tensor find(const NamedTensors& tensors, std::string_view name);

struct Case {
  Settings settings;
  DType dtype = DType::f64;    // what the candidate is to compute in; single tensors may be wider
  NamedTensors inputs = {};    // as the candidate gets them: floating-point, or integers such as sequence borders
  NamedTensors upstream = {};  // gradients of the loss with respect to outputs, by the outputs' names; an output that
                               // is not here does not enter the loss. Empty: forward only
};

/// `c` with every floating-point tensor in f64, of the values it has: what the reference computes from.
Case widened(const Case& c);

}  // namespace deltatape::harness
