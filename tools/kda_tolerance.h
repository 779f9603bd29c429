// What counts as equal: limits per tensor and dtype, and which cases get twice as much in 16 bits.
#pragma once

#include <string>

#include "tools/comparison.h"
#include "tools/kda_case.h"

namespace deltatape::tools {

/// The tensors that the limits tell apart.
enum class TensorKind : uint8_t {
  output,    // o, ht, y
  gradient,  // dq, dk, dv, dh0; parameters of a layer
  beta,      // dbeta: like gate in 16 bits, like gradient in f32
  gate,      // dg, dA_log, ddt_bias
};

/// The kind of a result of the operator, by its name.
TensorKind kind_of_kda(const std::string& tensor);

/// f64 1e-9; f32 5e-5 output, 2e-4 gradient and beta, 5e-4 gate; 16 bits 5e-3 output, 8e-3 gradient, 2e-2 beta and
/// gate, and twice that for a stress case. Floor: 1e-12 in f64, else 1e-6.
Tolerance kda_tolerance(TensorKind kind, DType dtype, bool stress);

/// Whether a case is hard for 16 bits, as its numbers say: a log decay (after the gate) below -5, a beta (after the
/// sigmoid) above 1.9, or two keys of a head, at most 64 steps apart, whose cosine is above 0.95 in size.
bool is_stress_case(const KdaCase& c);

}  // namespace deltatape::tools
