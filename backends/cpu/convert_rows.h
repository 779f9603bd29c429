// Rows of elements from one dtype to another.
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace deltatape::cpu {

/// Copies `count` elements; strides are in bytes and may be 0 at the source.
using ConvertRow = void (*)(const char* from, int64_t from_stride, char* to, int64_t to_stride, int64_t count);

/// The function that converts `from` to `to`: floating point to integer cuts the fraction off, saturates, and makes 0
/// of NaN; anything to bool is `!= 0`.
ConvertRow convert_row(DType from, DType to);

}  // namespace deltatape::cpu
