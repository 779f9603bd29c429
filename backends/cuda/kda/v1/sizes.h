// The K that the kernels of v1 are compiled for.
#pragma once

#include <cstdint>

#include "core/error.h"

namespace deltatape::cuda::kda::v1 {

/// Whether v1 has kernels for heads of K channels.
constexpr bool has_channels(int64_t K) { return K == 64 || K == 128; }

/// f with K as a constant; has_channels(K).
template <class F>
void with_channels(int K, F&& f) {
  if (K == 64) {
    f.template operator()<64>();
    return;
  }
  check(K == 128, "kda::v1", "K is {}, expected 64 or 128", K);
  f.template operator()<128>();
}

}  // namespace deltatape::cuda::kda::v1
