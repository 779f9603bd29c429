// What the bf16 kernels may be off from the float64 recurrence by, in the relative root mean square.
#pragma once

#include "tests/backends/cuda/kda/v1/gate_sets.h"

namespace deltatape::test::kda_v1 {

struct RoundingErrors {
  double o, ht, dq, dk, dv, dg, dbeta, dh0;
};

/// Errors of an emulation of the rounding points, at T = 512, K = V = 128; a kernel may be 1.5 times as far off.
inline RoundingErrors emulated_errors(GateSet set) {
  switch (set) {
    case GateSet::steep:
      return {.0038, .0027, .0029, .0031, .0035, .0033, .0025, .0015};
    case GateSet::slow:
      return {.0043, .0033, .0040, .0042, .0039, .0039, .0036, .0021};
    case GateSet::mixed:
      return {.0040, .0028, .0035, .0036, .0036, .0036, .0034, .0018};
    case GateSet::unbounded:
      return {.0032, .0019, .0026, .0026, .0029, .0023, .0022, .0019};
    case GateSet::correlated:
      return {.0062, .0056, .0060, .0040, .0060, .0054, .0076, .0018};
    case GateSet::correlated_beta2:
      return {.0070, .0067, .0070, .0051, .0068, .0067, .0138, .0027};
  }
  return {};
}
inline constexpr double kRoundingAllowance = 1.5;

/// What the kernels hand to one another.
struct StageErrors {
  double w, A, Aqk, h, v_new, dS, dv2;
};

/// Errors of the same emulation, of w, A and Aqk in the worst chunk: the largest with K = V = 64 and 128, chunks of 32
/// and 64, and both leaves.
inline StageErrors emulated_stage_errors(GateSet set) {
  switch (set) {
    case GateSet::steep:
      return {.0025, .0001, .0026, .0029, .0023, .0024, .0025};
    case GateSet::slow:
      return {.0029, .0009, .0029, .0038, .0027, .0030, .0035};
    case GateSet::mixed:
      return {.0028, .0008, .0029, .0038, .0026, .0030, .0035};
    case GateSet::unbounded:
      return {.0028, .0001, .0025, .0027, .0020, .0025, .0024};
    case GateSet::correlated:
      return {.0047, .0011, .0031, .0058, .0027, .0026, .0050};
    case GateSet::correlated_beta2:
      return {.0054, .0020, .0031, .0066, .0036, .0035, .0082};
  }
  return {};
}

}  // namespace deltatape::test::kda_v1
