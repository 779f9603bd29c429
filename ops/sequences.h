// Several sequences packed into one time axis, as described by cu_seqlens.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "core/tensor.h"

namespace deltatape {

/// The sequence bounds in `cu_seqlens` as host numbers: sequence n covers the time steps [bounds[n], bounds[n + 1]).
///
/// `cu_seqlens` is i64 or i32, rank 1, [N + 1] with N >= 1: first 0, non-decreasing (an empty sequence is fine), last
/// `steps`. `batch` and `steps` are the sizes B and T of the tensors it describes; B must be 1. Throws Error naming
/// `function` otherwise.
std::vector<int64_t> checked_cu_seqlens(std::string_view function, const Tensor& cu_seqlens, int64_t batch,
                                        int64_t steps);

/// For every time step the first step of its sequence: i64 [1, T] on `device`, from bounds as checked_cu_seqlens
/// returns them.
Tensor sequence_starts(const std::vector<int64_t>& bounds, Device device);

}  // namespace deltatape
