// Products of a warpgroup: wgmma of Hopper. Four neighbouring warps, the first a multiple of 4, multiply together; each
// holds 16 of 64 rows, in the layouts of mma.h.
//
//   WgAcc<128> S;                                  // the warp's 16 rows of sums [64,128], as tiles S[0] .. S[7]
//   wg_fence(S, a);                                // their registers are as they should be
//   wg_mma(S, a[0], tile, 0);                      // begins S += a[0] tile[0..15, :]
//   wg_mma(S, a[1], tile, 16);
//   wg_commit();
//   ..                                             // S and `a` may be neither read nor written, the tile not changed
//   wg_wait<0>(S);                                 // and now it may
//
// The right operand is a tile of Panels in shared memory: as it lies (its rows are summed over) with wg_mma, its
// transpose (its columns are summed over) with wg_mma_trans. Both operands have to be there until the wait, and the
// left one is no business of anybody else's till then: PTX says so of all registers of products under way. What warps
// stored there themselves needs fence_stores before the barrier; bulk copies do not.
//
// Only sm_90a has wgmma: elsewhere a kernel is no more than no_warpgroups(), by `if constexpr (kHasWarpgroups)`, and
// fails where it is started all the same.
#pragma once

#include "backends/cuda/kda/tile/fragments.h"
#include "backends/cuda/kda/tile/shared.h"

namespace deltatape::cuda::tile {

#if !defined(__CUDACC__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
inline constexpr bool kHasWarpgroups = true;
#else
inline constexpr bool kHasWarpgroups = false;
#endif

/// How wgmma finds a right operand B[16,N] of bf16 with the 128-byte swizzle: the 64 bits of the PTX manual's "matrix
/// descriptor". Lengths count 16 bytes.
///
///   bits  0..13  where the operand begins
///   bits 16..29  "leading dimension": from 64 columns to the next 64, where rows of memory run along N; where they run
///                along k the 16 columns lie in one swizzled row, and the field means nothing (1 by convention)
///   bits 32..45  "stride dimension": from 8 rows of 128 bytes to the next 8
///   bits 49..51  base offset: 0, since groups of 8 rows begin at multiples of 1024 bytes
///   bits 62..63  swizzle: 1 is that of 128 bytes
constexpr uint64_t matrix_descriptor(uint32_t begin, int leading_bytes, int stride_bytes) {
  constexpr uint32_t kMostShared = 0x3ffff;
  return uint64_t{(begin & kMostShared) >> 4} | static_cast<uint64_t>(leading_bytes >> 4) << 16 |
         static_cast<uint64_t>(stride_bytes >> 4) << 32 | uint64_t{1} << 62;
}

/// The operand that is rows k .. k + 15 of a tile of Panels<rows> at `begin`: rows are two groups of 8.
template <int rows>
constexpr uint64_t descriptor_of_rows(uint32_t begin, int k) {
  return matrix_descriptor(begin + static_cast<uint32_t>(k * Panels<rows>::kRowBytes), Panels<rows>::kBytes,
                           kPanelAlignment);
}
/// The operand that is the transpose of columns k .. k + 15: 32 bytes of the rows of one panel. The swizzle is undone
/// from the bits of the address, so an operand may begin inside a row.
template <int rows>
constexpr uint64_t descriptor_of_columns(uint32_t begin, int k) {
  constexpr int kNoMeaning = 16;
  const int bytes = k / Panels<rows>::kCols * Panels<rows>::kBytes + k % Panels<rows>::kCols * 2;
  return matrix_descriptor(begin + static_cast<uint32_t>(bytes), kNoMeaning, kPanelAlignment);
}

}  // namespace deltatape::cuda::tile

#ifdef __CUDACC__
#include "backends/cuda/kda/tile/device/wgmma.h"
#else
#include "backends/cuda/kda/tile/host/wgmma.h"
#endif

namespace deltatape::cuda::tile {

/// Begins d += a B with B rows k .. k + 15 of the tile; with `from_zero` d = a B. Code of a whole warpgroup.
template <bool from_zero = false, int n, int rows>
DT_DEVICE void wg_mma(WgAcc<n>& d, FragA& a, const STile<BFloat16, rows, n, Panels<rows>>& tile, int k) {
  begin_product<from_zero, true>(d, a, descriptor_of_rows<rows>(panel_address(tile.begin()), k));
}
/// Begins d += a B with B the transpose of columns k .. k + 15 of the tile.
template <bool from_zero = false, int n, int cols>
DT_DEVICE void wg_mma_trans(WgAcc<n>& d, FragA& a, const STile<BFloat16, n, cols, Panels<n>>& tile, int k) {
  begin_product<from_zero, false>(d, a, descriptor_of_columns<n>(panel_address(tile.begin()), k));
}

/// Before products: these sums and left operands (FragA or arrays of them) have been written, read or changed since the
/// last products that they were in. Sums of products under way are not named.
template <class... Parts>
DT_DEVICE void wg_fence(Parts&... parts) {
  (pin(parts), ...);
  fence_registers();
}

/// Waits until at most `n` of the last groups (commits) are under way. The sums named are of groups that are over, and
/// may be touched again.
template <int n, class... Sums>
DT_DEVICE void wg_wait(Sums&... sums) {
  wait_products<n>();
  (unpin(sums), ...);
}

/// Stores the transpose of 16 x 16 elements: element (i, j) goes to (row + j, col + i), both multiples of 8. From sm_90
/// on; nothing elsewhere.
template <class Tile>
DT_DEVICE void store_matrix_trans(const Tile& tile, int row, int col, const FragA& a) {
  stmatrix_trans(a.x, [&](int lane) { return tile.at(row + lane % 8 + lane / 16 * 8, col + lane / 8 % 2 * 8); });
}

}  // namespace deltatape::cuda::tile
