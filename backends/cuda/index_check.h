// Looking at indices on a device before kernels use them.
#pragma once

#include <cstdint>
#include <limits>
#include <string_view>

#include "core/tensor.h"

namespace deltatape::cuda {

/// The first index that is out of range.
struct IndexOutside {
  static constexpr int64_t kNone = std::numeric_limits<int64_t>::max();
  int64_t position = kNone;  // in row-major order
  int64_t index = 0;
};
/// Throws Error naming `function` and `argument` when `found` is one; expected are 0 to size - 1.
void check_none_outside(std::string_view function, std::string_view argument, const IndexOutside& found, int64_t size);

/// The values of `index` (i64 or i32) as a dense i64 tensor on its device. Throws Error as above when one is not in
/// [0, size): the host waits for the answer. While the device's work is recorded it does as indices_for_replays does.
Tensor checked_indices(std::string_view function, std::string_view argument, const Tensor& index, int64_t size);

/// For i64 indices that were checked before the call: they themselves, unless the device's work is recorded. Then every
/// replay looks at what it is given, puts 0 in the place of an index out of range and notes the first one: whoever
/// waits for the replay gets the Error (GraphMemory::watch).
Tensor indices_for_replays(std::string_view function, std::string_view argument, const Tensor& index, int64_t size);

}  // namespace deltatape::cuda
