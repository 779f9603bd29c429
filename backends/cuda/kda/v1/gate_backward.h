// The gate's derivative per element.
#pragma once

#include "backends/cuda/kda/v1/decay.h"

namespace deltatape::cuda::kda::v1 {

/// What one element's gradient of the log decay (natural logarithm) becomes.
struct GateGradient {
  float dx;     // of the raw value
  float dbias;  // its share of ddt_bias
  float dA;     // its share of dA_log
};

/// `x` is the raw value, `bias` its dt_bias, `dy` the gradient of the log decay.
DT_DEVICE GateGradient gate_gradient(const HeadGate& head, float x, float bias, float dy) {
  if (head.gate == Gate::none) {
    return {dy, 0.0F, 0.0F};
  }
  const float z = x + bias;
  if (head.gate == Gate::standard) {
    const float dx = -dy * head.a * tile::sigmoid(z);
    return {dx, dx, dy * tile::kLn2 * log2_decay(head, x, bias)};
  }
  const float az = head.a * z;
  const float dx = dy * head.lower_bound * head.a * tile::sigmoid(az) * tile::sigmoid(-az);
  return {dx, dx, dx * z};
}

}  // namespace deltatape::cuda::kda::v1
