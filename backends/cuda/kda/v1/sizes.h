// For which K the kernels of v1 are compiled. Each takes seconds per architecture, so that a build that is not going to
// run them may do with one.
#pragma once

#include "core/error.h"

namespace deltatape::cuda::kda::v1 {

#ifdef DELTATAPE_CUDA_KDA_K128_ONLY
inline constexpr bool kWithK64 = false;
#else
inline constexpr bool kWithK64 = true;
#endif
template <int K>
inline constexpr bool kWithChannels = K == 128 || kWithK64;

/// f with K as a constant; K is 64 or 128.
template <class F>
void with_channels(int K, F&& f) {
  if constexpr (kWithK64) {
    if (K == 64) {
      f.template operator()<64>();
      return;
    }
  }
  check(K == 128, "kda::v1", "K is {}, expected {}", K, kWithK64 ? "64 or 128" : "128 in this build");
  f.template operator()<128>();
}

}  // namespace deltatape::cuda::kda::v1
