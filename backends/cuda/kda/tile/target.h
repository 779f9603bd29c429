// Where a kernel body runs: on the GPU (nvcc), one lane per thread, or on the host, all 32 lanes of a warp at once.
#pragma once

#include <cstdint>
#include <type_traits>
#include <utility>

#ifdef __CUDACC__
#define DT_DEVICE __device__ __forceinline__
#else
#define DT_DEVICE inline
#endif

namespace deltatape::cuda::tile {

inline constexpr int kLanes = 32;
inline constexpr int kWarpsOfGroup = 4;  // neighbouring warps that share products on Hopper (wgmma.h)
#ifdef __CUDACC__
inline constexpr bool kOnHost = false;
#else
inline constexpr bool kOnHost = true;
#endif

/// Calls f with 0, 1 .. n - 1 as constants (`decltype(i)::value`, or plainly `i`): a loop that is always unrolled, so
/// that arrays of fragments stay in registers.
template <int n, class F>
DT_DEVICE void unroll(F&& f) {
  [&]<int... i>(std::integer_sequence<int, i...>) { (f(std::integral_constant<int, i>{}), ...); }
  (std::make_integer_sequence<int, n>{});
}

/// Calls f with 0, 1 .. n - 1: a loop that is never unrolled, where that would cost registers.
template <class F>
DT_DEVICE void roll(int n, F&& f) {
#ifdef __CUDACC__
#pragma unroll 1
#endif
  for (int i = 0; i < n; ++i) {
    f(i);
  }
}

constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }
constexpr int round_up(int a, int b) { return ceil_div(a, b) * b; }

/// `n` values, read and written as one aligned access where they fit into 16 bytes.
template <class T, int n>
struct Values {
  T x[n];
  DT_DEVICE T& operator[](int i) { return x[i]; }
  DT_DEVICE const T& operator[](int i) const { return x[i]; }
};

}  // namespace deltatape::cuda::tile
