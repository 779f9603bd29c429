// Looking for indices out of range before they are used, so that the Error can say where the bad one is.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "core/tensor.h"

namespace deltatape {

/// Throws Error naming `function` and `argument`, with value and position of the first entry of `index` (i64 or i32)
/// that is neither in [0, bound) nor equal to `ignored`. Returns how many entries are not ignored; -1, and nothing is
/// checked, while the device's work is being recorded: replays look at what they are given
/// (backends/cuda/index_check.h).
int64_t check_index_range(std::string_view function, std::string_view argument, const Tensor& index, int64_t bound,
                          std::optional<int64_t> ignored = std::nullopt);

}  // namespace deltatape
