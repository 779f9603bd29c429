// Kernels over a list of tensors in one launch: what optimizers do to all parameters. The list travels as the kernel's
// argument, so nothing is copied to the device first.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "backends/cuda/block_launch.h"
#include "backends/cuda/rows.h"

namespace deltatape::cuda {

/// Tensors of one launch: with kArrays pointers each, they stay within the 4 KiB of arguments that every GPU takes.
inline constexpr int kListLength = 48;
/// Packs of a tensor that one block of 256 threads does.
inline constexpr int64_t kListPacks = 1024;

/// Up to kListLength dense tensors, cut into blocks.
struct ListLayout {
  int tensors = 0;
  int64_t lengths[kListLength] = {};          // elements
  int64_t first_block[kListLength + 1] = {};  // of each, and their number

  /// Adds a tensor of `length` elements, in packs of `pack`.
  void add(int64_t length, int pack) {
    lengths[tensors] = length;
    const int64_t packs = (length + pack - 1) / pack;
    first_block[tensors + 1] = first_block[tensors] + (packs + kListPacks - 1) / kListPacks;
    ++tensors;
  }
  [[nodiscard]] bool full() const { return tensors == kListLength; }
  [[nodiscard]] int64_t blocks() const { return first_block[tensors]; }

  /// Which tensor a block belongs to.
  [[nodiscard]] DT_HD int tensor_of(int64_t block) const {
    int low = 0;
    int high = tensors - 1;
    while (low < high) {
      const int middle = (low + high + 1) / 2;
      if (first_block[middle] <= block) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    return low;
  }
  /// A block's packs: [first, first + count) of its tensor.
  [[nodiscard]] DT_HD int64_t first_pack(int64_t block, int tensor) const {
    return (block - first_block[tensor]) * kListPacks;
  }
  [[nodiscard]] DT_HD int64_t pack_count(int64_t first, int tensor, int pack) const {
    const int64_t rest = (lengths[tensor] + pack - 1) / pack - first;
    return rest < kListPacks ? rest : kListPacks;
  }
};

/// All elements of a dense tensor as one line.
template <class T>
DT_HD Line<T> whole(const T* data, int64_t length) {
  return {data, 1, length, reinterpret_cast<uintptr_t>(data) % 16 == 0};
}
template <class T>
DT_HD OutLine<T> whole_out(T* data, int64_t length) {
  return {data, 1, length, reinterpret_cast<uintptr_t>(data) % 16 == 0};
}

}  // namespace deltatape::cuda
