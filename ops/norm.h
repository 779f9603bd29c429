// Normalisation over the last dimension. All differentiable.
#pragma once

#include <cstdint>

#include "core/tensor.h"

namespace deltatape {

/// x / sqrt(mean(x^2) + eps) * weight. x [.., D]; weight [D] or undefined (1); eps > 0.
/// Source: Zhang, Sennrich, "Root Mean Square Layer Normalization", 2019, eq. 4.
Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps = 1e-6);
/// What a gate is passed through: 1 / (1 + exp(-z)), or z times that.
enum class GateActivation : uint8_t { sigmoid, swish };
/// rms_norm(x, weight, eps) * activation(gate), in one pass. x, gate [.., D] of one dtype; weight [D] or undefined (1);
/// eps > 0. 16 bits are computed with in f32. FLA: fused_norm_gate.
Tensor gated_rms_norm(const Tensor& x, const Tensor& weight, const Tensor& gate,
                      GateActivation activation = GateActivation::sigmoid, double eps = 1e-6);
/// (x - mean) / sqrt(var + eps) * weight + bias, var without correction. weight, bias [D] or undefined (1, 0).
/// Source: Ba, Kiros, Hinton, "Layer Normalization", 2016, eq. 4.
Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps = 1e-5);
/// x / sqrt(sum(x^2) + eps), as in KDA's q/k norm. x [.., D].
Tensor l2_normalize(const Tensor& x, double eps = 1e-6);

}  // namespace deltatape
