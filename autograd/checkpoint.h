// Activation checkpointing: keep the inputs of a part of the model, compute its insides again in backward.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "core/tensor.h"

namespace deltatape {

/// `function(inputs)`, with nothing inside it kept for backward: the backward pass runs `function` once more.
///
/// Gradients reach the inputs and every leaf that `function` captured (a module's parameters, say), from backward()
/// and from grad() alike; a captured tensor that ops have made is refused (pass it as an input). `function` must
/// compute the same values each time it is called: draw random numbers from a Generator that it copies, and do not
/// modify tensors in it. Second derivatives work (they recompute too).
std::vector<Tensor> checkpoint(const std::function<std::vector<Tensor>(std::span<const Tensor>)>& function,
                               std::span<const Tensor> inputs);
/// For one input and one output.
Tensor checkpoint(const std::function<Tensor(const Tensor&)>& function, const Tensor& input);

}  // namespace deltatape
