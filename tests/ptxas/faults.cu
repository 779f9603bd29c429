// Kernels that break the budgets, each in its way: check.cmake has to find them all.
#include "backends/cuda/kda/tile/wgmma.h"

namespace {

namespace tile = deltatape::cuda::tile;

__global__ void with_stack(const int* index, float* y) {
  float x[64];
  for (int i = 0; i < 64; ++i) {
    x[index[i]] = y[i];
  }
  y[0] = x[index[64]];
}

__global__ void with_atomic(float* y) { atomicAdd(y, 1.0F); }

__global__ void with_too_much(const float* x, float* y) {
  __shared__ float shared[1024];
  shared[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = shared[1023 - threadIdx.x];
}

// Sums are changed while a product into them is under way.
__global__ void with_sums_touched(const float* x, float* y, uint64_t b) {
  tile::WgAcc<64> d;
  tile::FragA a = tile::make_a([&](int row, int k) { return x[16 * row + k]; });
  tile::wg_fence(a, d);
  tile::begin_product<true, false>(d, a, b);
  tile::wg_commit();
  tile::each(d[0], [](int, int, float& value) { value *= 2.0F; });
  tile::wg_wait<0>(d);
  tile::each(d[0], [&](int row, int col, float& value) { y[16 * row + col] = value; });
}

__global__ void with_fewer(float* y) { y[1] = 1.0F; }

__global__ void with_no_row(float* y) { y[0] = 1.0F; }

}  // namespace

void launch_faults(const int* index, float* y) {
  with_stack<<<1, 32>>>(index, y);
  with_atomic<<<1, 32>>>(y);
  with_too_much<<<1, 1024>>>(y, y);
  with_sums_touched<<<1, 128>>>(y, y, 0);
  with_fewer<<<1, 1>>>(y);
  with_no_row<<<1, 1>>>(y);
}
