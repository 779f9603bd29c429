// Sorting numbers together with their places.
#pragma once

#include <cstdint>

#include "backends/cuda/runtime/stream.h"
#include "core/tensor.h"

namespace deltatape::cuda {

/// Keys in ascending order, and where each stood; equal keys keep their order. Both i64 tensors (the keys unsigned).
struct Sorted {
  Tensor keys;
  Tensor places;
};
/// Sorts `keys`, a dense i64 tensor whose elements are read as unsigned and are below 2^bits.
Sorted sort_with_places(const Stream& stream, const Tensor& keys, int bits = 64);

/// Bits that numbers in [0, count) take, at least 1.
int bits_below(int64_t count);

}  // namespace deltatape::cuda
