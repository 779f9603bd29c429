// The tape as a picture.
#pragma once

#include <span>
#include <string>

#include "core/tensor.h"

namespace deltatape {

/// The graph behind `output` in Graphviz's language (`dot -Tpng`): a box per op with the shapes of its results, an
/// ellipse per leaf, arrows in the direction of the computation. The same graph gives the same text.
std::string to_dot(const Tensor& output);

}  // namespace deltatape
