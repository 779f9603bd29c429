// The same products through wgmma and through mma.sync: whether descriptors and layouts are what a GPU takes them for.
// For tests; the host twin cannot tell, since it reads descriptors as we do.
#pragma once

#include "backends/cuda/kda/tile/block.h"
#include "backends/cuda/runtime/stream.h"
#include "core/tensor.h"

namespace deltatape::cuda::kda::v2 {

/// A product of the scans: a [64,depth] by a tile [rows,cols] of 64 rows, or by its transpose.
struct CheckedProduct {
  bool transposed = false;
  int cols = 64;  // or 128
  [[nodiscard]] constexpr int depth() const { return transposed ? cols : 64; }
  [[nodiscard]] constexpr int columns() const { return transposed ? 64 : cols; }
};
/// All that the scans use.
inline constexpr CheckedProduct kCheckedProducts[] = {{false, 64}, {false, 128}, {true, 64}, {true, 128}};

/// Where tiles are put in shared memory, in units of kPanelAlignment.
inline constexpr int kCheckedPlaces = 4;

/// Results [kCheckedPlaces, depth / 16 + 1, 64, columns], f32, on the device of a and b (bf16): of each 16 of the depth
/// alone, and of all together. Expects a device of compute capability 9.x.
struct CheckedResults {
  Tensor by_wgmma;
  Tensor by_mma;
};
CheckedResults check_product(const CheckedProduct& product, const Tensor& a, const Tensor& b);

}  // namespace deltatape::cuda::kda::v2
