// Softmax attention, for comparison and for hybrid models. Differentiable.
#pragma once

#include <optional>

#include "core/tensor.h"

namespace deltatape {

struct AttentionOptions {
  bool causal = false;                         // position i sees j <= i only (T and S aligned at the start)
  std::optional<double> scale = std::nullopt;  // default D^-1/2; finite
};
/// softmax(scale q k' + mask) v. q [.., T, D], k [.., S, D], v [.., S, E]; `mask` undefined, or bool (true: may be
/// seen) or floating point (added), broadcast to [.., T, S]. Result [.., T, E]. A row of which the mask hides
/// everything gives NaN; without any key (S = 0) the result is 0.
Tensor scaled_dot_product_attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask = Tensor(),
                                    const AttentionOptions& options = {});

}  // namespace deltatape
