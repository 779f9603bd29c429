// Launches of the decode kernel, a file for each K and layout of the states: they take long to compile.
#pragma once

#include "backends/cuda/kda/decode/kernel.h"
#include "backends/cuda/kda/tile/launch.h"

namespace deltatape::cuda::kda::decoding {

/// How much there is to do.
struct Size {
  int64_t heads = 0;  // sequences times value heads
  int tokens = 1;     // of each sequence
  int V = 64;         // or 128
  bool bf16_states = false;
};

/// Starts the kernel for states of this K and layout.
template <int K, bool v_first>
void start(const Stream& stream, const Size& size, const Params& p);

extern template void start<64, false>(const Stream&, const Size&, const Params&);
extern template void start<64, true>(const Stream&, const Size&, const Params&);
extern template void start<128, false>(const Stream&, const Size&, const Params&);
extern template void start<128, true>(const Stream&, const Size&, const Params&);

/// Blocks that fill the multiprocessors of an H200 with two each.
inline constexpr int64_t kEnoughBlocks = 264;

template <int K, int V, int slice, bool v_first>
void start_slices(const Stream& stream, const Size& size, const Params& p) {
  static_assert(Decode<K, V, slice, v_first, float>::kSharedBytes <= 227 * 1024, "a block on sm_90 has no more");
  const Grid grid{size.heads * (V / slice)};
  if (size.bf16_states) {
    tile::launch_warps<Decode<K, V, slice, v_first, BFloat16>>(stream, grid, p);
  } else {
    tile::launch_warps<Decode<K, V, slice, v_first, float>>(stream, grid, p);
  }
}

template <int K, bool v_first>
void start(const Stream& stream, const Size& size, const Params& p) {
  if (size.V == 64) {
    start_slices<K, 64, 64, v_first>(stream, size, p);
  } else if (size.tokens > 1 || size.heads < kEnoughBlocks) {
    start_slices<K, 128, 64, v_first>(stream, size, p);
  } else {
    start_slices<K, 128, 128, v_first>(stream, size, p);
  }
}

}  // namespace deltatape::cuda::kda::decoding
