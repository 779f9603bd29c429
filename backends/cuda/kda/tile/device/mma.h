// PTX of the tensor cores.
#pragma once

#include "backends/cuda/kda/tile/device/lanes.h"
#include "backends/cuda/kda/tile/target.h"

namespace deltatape::cuda::tile {

/// Columns 8 half .. of d[16,16] += a[16,16] b[16,16], bf16.
template <int half>
DT_DEVICE void mma_m16n8k16(PerLane<float, 8>& d, const PerLane<uint32_t, 4>& a, const PerLane<uint32_t, 4>& b) {
  constexpr int kTo = 4 * half;
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d(0, kTo)), "+f"(d(0, kTo + 1)), "+f"(d(0, kTo + 2)), "+f"(d(0, kTo + 3))
      : "r"(a(0, 0)), "r"(a(0, 1)), "r"(a(0, 2)), "r"(a(0, 3)), "r"(b(0, 2 * half)), "r"(b(0, 2 * half + 1)));
}

/// Columns 8 half .. of d[16,16] += a[16, 8 step ..] b[8 step .., 16], tf32.
template <int step, int half>
DT_DEVICE void mma_m16n8k8(PerLane<float, 8>& d, const PerLane<uint32_t, 8>& a, const PerLane<uint32_t, 8>& b) {
  constexpr int kTo = 4 * half;
  constexpr int kA = 4 * step;
  constexpr int kB = 4 * step + 2 * half;
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d(0, kTo)), "+f"(d(0, kTo + 1)), "+f"(d(0, kTo + 2)), "+f"(d(0, kTo + 3))
      : "r"(a(0, kA)), "r"(a(0, kA + 1)), "r"(a(0, kA + 2)), "r"(a(0, kA + 3)), "r"(b(0, kB)), "r"(b(0, kB + 1)));
}

/// Four 8 x 8 matrices of 16-bit elements; lane 8 m + r names where row r of matrix m begins.
template <bool trans, class Address>
DT_DEVICE void ldmatrix(PerLane<uint32_t, 4>& x, Address&& address) {
  const uint32_t from = address(lane_id()).address();
  if constexpr (trans) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(x(0, 0)), "=r"(x(0, 1)), "=r"(x(0, 2)), "=r"(x(0, 3))
                 : "r"(from)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(x(0, 0)), "=r"(x(0, 1)), "=r"(x(0, 2)), "=r"(x(0, 3))
                 : "r"(from)
                 : "memory");
  }
}

}  // namespace deltatape::cuda::tile
