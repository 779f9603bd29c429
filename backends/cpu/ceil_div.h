// Division that rounds up.
#pragma once

#include <cstdint>

namespace deltatape::cpu {

/// Ceiling of a / b for b > 0.
constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace deltatape::cpu
