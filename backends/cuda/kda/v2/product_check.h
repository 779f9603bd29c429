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
/// alone, and of all together.
struct CheckedResults {
  Tensor by_wgmma;  // added to sums of 0, each 16 of the depth waited for
  Tensor at_once;   // in place of sums of 3 (`from_zero`), in groups that go on with the same sums before the one wait
  Tensor by_mma;
};
/// Throws Error where why_no_wgmma(a.device()) is not empty.
CheckedResults check_product(const CheckedProduct& product, const Tensor& a, const Tensor& b);

}  // namespace deltatape::cuda::kda::v2
