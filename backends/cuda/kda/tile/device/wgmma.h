// PTX of wgmma, and of what else belongs to a warpgroup. Nothing on other GPUs than those of sm_90a.
#pragma once

#include "backends/cuda/kda/tile/device/shared_memory.h"
#include "backends/cuda/kda/tile/fragments.h"
#include "backends/cuda/kda/tile/target.h"

namespace deltatape::cuda::tile {

/// The warp's rows of sums [64,n], in tiles of 16 columns. Not initialised.
template <int n>
class WgAcc {
 public:
  static constexpr int kTiles = n / 16;
  DT_DEVICE Acc& operator[](int t) { return tiles_[t]; }
  DT_DEVICE const Acc& operator[](int t) const { return tiles_[t]; }

 private:
  static_assert(n == 64 || n == 128);
  Acc tiles_[kTiles];
};

template <class T>
DT_DEVICE uint32_t panel_address(SharedPointer<T> begin) {
  return begin.address();
}

/// Begins d += a b (d = a b with `from_zero`) with b the operand of a descriptor, whose rows of memory are those of k
/// or those of n.
template <bool from_zero, bool rows_of_k>
DT_DEVICE void begin_product([[maybe_unused]] WgAcc<64>& d, [[maybe_unused]] const FragA& a,
                             [[maybe_unused]] uint64_t b) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile(
      "{ .reg .pred add; setp.ne.b32 add, %37, 0; "
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
      "{%32, %33, %34, %35}, %36, add, 1, 1, %38; }"
      : "+f"(d[0].x(0, 0)), "+f"(d[0].x(0, 1)), "+f"(d[0].x(0, 2)), "+f"(d[0].x(0, 3)), "+f"(d[0].x(0, 4)),
        "+f"(d[0].x(0, 5)), "+f"(d[0].x(0, 6)), "+f"(d[0].x(0, 7)), "+f"(d[1].x(0, 0)), "+f"(d[1].x(0, 1)),
        "+f"(d[1].x(0, 2)), "+f"(d[1].x(0, 3)), "+f"(d[1].x(0, 4)), "+f"(d[1].x(0, 5)), "+f"(d[1].x(0, 6)),
        "+f"(d[1].x(0, 7)), "+f"(d[2].x(0, 0)), "+f"(d[2].x(0, 1)), "+f"(d[2].x(0, 2)), "+f"(d[2].x(0, 3)),
        "+f"(d[2].x(0, 4)), "+f"(d[2].x(0, 5)), "+f"(d[2].x(0, 6)), "+f"(d[2].x(0, 7)), "+f"(d[3].x(0, 0)),
        "+f"(d[3].x(0, 1)), "+f"(d[3].x(0, 2)), "+f"(d[3].x(0, 3)), "+f"(d[3].x(0, 4)), "+f"(d[3].x(0, 5)),
        "+f"(d[3].x(0, 6)), "+f"(d[3].x(0, 7))
      : "r"(a.x(0, 0)), "r"(a.x(0, 1)), "r"(a.x(0, 2)), "r"(a.x(0, 3)), "l"(b), "n"(from_zero ? 0 : 1),
        "n"(rows_of_k ? 1 : 0)
      : "memory");
#endif
}
template <bool from_zero, bool rows_of_k>
DT_DEVICE void begin_product([[maybe_unused]] WgAcc<128>& d, [[maybe_unused]] const FragA& a,
                             [[maybe_unused]] uint64_t b) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile(
      "{ .reg .pred add; setp.ne.b32 add, %69, 0; "
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
      "{%64, %65, %66, %67}, %68, add, 1, 1, %70; }"
      : "+f"(d[0].x(0, 0)), "+f"(d[0].x(0, 1)), "+f"(d[0].x(0, 2)), "+f"(d[0].x(0, 3)), "+f"(d[0].x(0, 4)),
        "+f"(d[0].x(0, 5)), "+f"(d[0].x(0, 6)), "+f"(d[0].x(0, 7)), "+f"(d[1].x(0, 0)), "+f"(d[1].x(0, 1)),
        "+f"(d[1].x(0, 2)), "+f"(d[1].x(0, 3)), "+f"(d[1].x(0, 4)), "+f"(d[1].x(0, 5)), "+f"(d[1].x(0, 6)),
        "+f"(d[1].x(0, 7)), "+f"(d[2].x(0, 0)), "+f"(d[2].x(0, 1)), "+f"(d[2].x(0, 2)), "+f"(d[2].x(0, 3)),
        "+f"(d[2].x(0, 4)), "+f"(d[2].x(0, 5)), "+f"(d[2].x(0, 6)), "+f"(d[2].x(0, 7)), "+f"(d[3].x(0, 0)),
        "+f"(d[3].x(0, 1)), "+f"(d[3].x(0, 2)), "+f"(d[3].x(0, 3)), "+f"(d[3].x(0, 4)), "+f"(d[3].x(0, 5)),
        "+f"(d[3].x(0, 6)), "+f"(d[3].x(0, 7)), "+f"(d[4].x(0, 0)), "+f"(d[4].x(0, 1)), "+f"(d[4].x(0, 2)),
        "+f"(d[4].x(0, 3)), "+f"(d[4].x(0, 4)), "+f"(d[4].x(0, 5)), "+f"(d[4].x(0, 6)), "+f"(d[4].x(0, 7)),
        "+f"(d[5].x(0, 0)), "+f"(d[5].x(0, 1)), "+f"(d[5].x(0, 2)), "+f"(d[5].x(0, 3)), "+f"(d[5].x(0, 4)),
        "+f"(d[5].x(0, 5)), "+f"(d[5].x(0, 6)), "+f"(d[5].x(0, 7)), "+f"(d[6].x(0, 0)), "+f"(d[6].x(0, 1)),
        "+f"(d[6].x(0, 2)), "+f"(d[6].x(0, 3)), "+f"(d[6].x(0, 4)), "+f"(d[6].x(0, 5)), "+f"(d[6].x(0, 6)),
        "+f"(d[6].x(0, 7)), "+f"(d[7].x(0, 0)), "+f"(d[7].x(0, 1)), "+f"(d[7].x(0, 2)), "+f"(d[7].x(0, 3)),
        "+f"(d[7].x(0, 4)), "+f"(d[7].x(0, 5)), "+f"(d[7].x(0, 6)), "+f"(d[7].x(0, 7))
      : "r"(a.x(0, 0)), "r"(a.x(0, 1)), "r"(a.x(0, 2)), "r"(a.x(0, 3)), "l"(b), "n"(from_zero ? 0 : 1),
        "n"(rows_of_k ? 1 : 0)
      : "memory");
#endif
}

/// Whoever computes a register has done so before this, and whoever reads it does so after: the compiler takes the
/// registers of asynchronous products for ordinary ones.
template <int n>
DT_DEVICE void pin(WgAcc<n>& sums) {
  unroll<n / 16>([&](auto t) { unroll<8>([&](auto i) { asm volatile("" : "+f"(sums[t].x(0, i)) : : "memory"); }); });
}
DT_DEVICE void pin(FragA& a) {
  unroll<4>([&](auto i) { asm volatile("" : "+r"(a.x(0, i)) : : "memory"); });
}
template <int n>
DT_DEVICE void pin(FragA (&a)[n]) {
  unroll<n>([&](auto t) { pin(a[t]); });
}
template <int n>
DT_DEVICE void unpin(WgAcc<n>& sums) {
  pin(sums);
}

DT_DEVICE void fence_registers() {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("wgmma.fence.sync.aligned;" : : : "memory");
#endif
}

/// Closes the group of products that were begun since the last.
DT_DEVICE void wg_commit() {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("wgmma.commit_group.sync.aligned;" : : : "memory");
#endif
}

template <int n>
DT_DEVICE void wait_products() {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("wgmma.wait_group.sync.aligned %0;" : : "n"(n) : "memory");
#endif
}

/// A kernel of warpgroups runs where it was not compiled for them: the launch fails.
DT_DEVICE void no_warpgroups() { asm volatile("trap;"); }

/// What the warp stored in shared memory before is there for wgmma of those that it meets at a barrier after.
DT_DEVICE void fence_stores() {
#if __CUDA_ARCH__ >= 900
  asm volatile("fence.proxy.async.shared::cta;" : : : "memory");
#endif
}

/// Four 8 x 8 matrices of 16-bit elements, stored transposed; lane 8 m + r names where row r of matrix m begins.
template <class Address>
DT_DEVICE void stmatrix_trans([[maybe_unused]] const PerLane<uint32_t, 4>& x, [[maybe_unused]] Address&& address) {
#if __CUDA_ARCH__ >= 900
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1,%2,%3,%4};"
               :
               : "r"(address(lane_id()).address()), "r"(x(0, 0)), "r"(x(0, 1)), "r"(x(0, 2)), "r"(x(0, 3))
               : "memory");
#endif
}

/// The warpgroup gives registers back until each lane has `n`, or takes some until it has: a multiple of 8 from 24 to
/// 256. All its warps, at the start of what they do. What others take has to be there: who gives too little hangs them.
template <int n>
DT_DEVICE void give_registers() {
  static_assert(n % 8 == 0 && n >= 24 && n <= 256);
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" : : "n"(n));
#endif
}
template <int n>
DT_DEVICE void take_registers() {
  static_assert(n % 8 == 0 && n >= 24 && n <= 256);
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" : : "n"(n));
#endif
}

}  // namespace deltatape::cuda::tile
