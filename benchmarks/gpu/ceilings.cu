// What this GPU can do at best, as rates that the kernels are held against: a copy, a product through cuBLAS, and loops
// of nothing but tensor-core instructions. Prints one line of JSON.
#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace {

void require(cudaError_t status, const char* what) {
  if (status != cudaSuccess) {
    std::fprintf(stderr, "ceilings: %s: %s\n", what, cudaGetErrorString(status));
    std::exit(1);
  }
}

void require(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS) {
    std::fprintf(stderr, "ceilings: %s: %s\n", what, cublasGetStatusString(status));
    std::exit(1);
  }
}

// Seconds of one call of `work`: the median of `repeats` after three to warm up.
template <class F>
double seconds(F work, int repeats = 20) {
  cudaEvent_t begin;
  cudaEvent_t end;
  require(cudaEventCreate(&begin), "cudaEventCreate");
  require(cudaEventCreate(&end), "cudaEventCreate");
  std::vector<float> times;
  for (int i = -3; i < repeats; ++i) {
    require(cudaEventRecord(begin), "cudaEventRecord");
    work();
    require(cudaEventRecord(end), "cudaEventRecord");
    require(cudaEventSynchronize(end), "cudaEventSynchronize");
    float ms = 0;
    require(cudaEventElapsedTime(&ms, begin, end), "cudaEventElapsedTime");
    if (i >= 0) {
      times.push_back(ms);
    }
  }
  require(cudaGetLastError(), "a kernel");
  std::nth_element(times.begin(), times.begin() + repeats / 2, times.end());
  require(cudaEventDestroy(begin), "cudaEventDestroy");
  require(cudaEventDestroy(end), "cudaEventDestroy");
  return 1e-3 * times[static_cast<size_t>(repeats / 2)];
}

__global__ void copy_kernel(const uint4* __restrict__ in, uint4* __restrict__ out, size_t count) {
  const size_t stride = size_t{gridDim.x} * blockDim.x;
  size_t i = size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  for (; i + 3 * stride < count; i += 4 * stride) {
    const uint4 a = in[i];
    const uint4 b = in[i + stride];
    const uint4 c = in[i + 2 * stride];
    const uint4 d = in[i + 3 * stride];
    out[i] = a;
    out[i + stride] = b;
    out[i + 2 * stride] = c;
    out[i + 3 * stride] = d;
  }
  for (; i < count; i += stride) {
    out[i] = in[i];
  }
}

// Random operands: on zeros the tensor cores draw less power and run faster than on data.
__device__ uint32_t two_random_bf16(uint32_t seed) {
  seed = seed * 747796405U + 2891336453U;
  seed = ((seed >> ((seed >> 28U) + 4U)) ^ seed) * 277803737U;
  return (seed & 0x807f807fU) | 0x3f003f00U;  // 0.5 <= |x| < 1
}

constexpr int kMmaAccumulators = 8;

__global__ void __launch_bounds__(512) mma_loop(int rounds, float* out) {
  uint32_t a[4];
  uint32_t b[2];
  for (uint32_t i = 0; i < 4; ++i) {
    a[i] = two_random_bf16(threadIdx.x * 16 + i);
  }
  for (uint32_t i = 0; i < 2; ++i) {
    b[i] = two_random_bf16(threadIdx.x * 16 + 8 + i);
  }
  float c[kMmaAccumulators][4] = {};
  for (int round = 0; round < rounds; ++round) {
#pragma unroll
    for (int i = 0; i < kMmaAccumulators; ++i) {
      asm volatile(
          "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
          "{%0, %1, %2, %3};"
          : "+f"(c[i][0]), "+f"(c[i][1]), "+f"(c[i][2]), "+f"(c[i][3])
          : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    }
  }
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kMmaAccumulators; ++i) {
    sum += c[i][0] + c[i][1] + c[i][2] + c[i][3];
  }
  out[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}

constexpr int kWgmmaColumns = 128;

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
// A tile of 64 columns of bf16 in rows of 128 bytes, swizzled by 128: the descriptor of its first row.
__device__ uint64_t tile_descriptor(const void* tile) {
  const auto address = static_cast<uint64_t>(__cvta_generic_to_shared(tile));
  return ((address & 0x3ffffU) >> 4U) | (uint64_t{1} << 16U) | (uint64_t{1024 >> 4} << 32U) | (uint64_t{1} << 62U);
}

__device__ void wgmma(float (&c)[64], uint64_t a, uint64_t b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
      "%64, %65, 1, 1, 1, 0, 0;"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]), "+f"(c[4]), "+f"(c[5]), "+f"(c[6]), "+f"(c[7]), "+f"(c[8]),
        "+f"(c[9]), "+f"(c[10]), "+f"(c[11]), "+f"(c[12]), "+f"(c[13]), "+f"(c[14]), "+f"(c[15]), "+f"(c[16]),
        "+f"(c[17]), "+f"(c[18]), "+f"(c[19]), "+f"(c[20]), "+f"(c[21]), "+f"(c[22]), "+f"(c[23]), "+f"(c[24]),
        "+f"(c[25]), "+f"(c[26]), "+f"(c[27]), "+f"(c[28]), "+f"(c[29]), "+f"(c[30]), "+f"(c[31]), "+f"(c[32]),
        "+f"(c[33]), "+f"(c[34]), "+f"(c[35]), "+f"(c[36]), "+f"(c[37]), "+f"(c[38]), "+f"(c[39]), "+f"(c[40]),
        "+f"(c[41]), "+f"(c[42]), "+f"(c[43]), "+f"(c[44]), "+f"(c[45]), "+f"(c[46]), "+f"(c[47]), "+f"(c[48]),
        "+f"(c[49]), "+f"(c[50]), "+f"(c[51]), "+f"(c[52]), "+f"(c[53]), "+f"(c[54]), "+f"(c[55]), "+f"(c[56]),
        "+f"(c[57]), "+f"(c[58]), "+f"(c[59]), "+f"(c[60]), "+f"(c[61]), "+f"(c[62]), "+f"(c[63])
      : "l"(a), "l"(b));
}
#endif

// Two warpgroups, each with its own A tile and both with the same B tile.
__global__ void __launch_bounds__(256) wgmma_loop(int rounds, float* out) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  __shared__ alignas(1024) uint32_t a_tiles[2][64 * 32];
  __shared__ alignas(1024) uint32_t b_tile[kWgmmaColumns * 32];
  for (uint32_t i = threadIdx.x; i < 2 * 64 * 32; i += blockDim.x) {
    (&a_tiles[0][0])[i] = two_random_bf16(i);
  }
  for (uint32_t i = threadIdx.x; i < kWgmmaColumns * 32; i += blockDim.x) {
    b_tile[i] = two_random_bf16(i + 7919);
  }
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  __syncthreads();
  const uint64_t a = tile_descriptor(a_tiles[threadIdx.x / 128]);
  const uint64_t b = tile_descriptor(b_tile);
  float c[64] = {};
  for (int round = 0; round < rounds; ++round) {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
    for (int step = 0; step < 4; ++step) {  // 16 columns are 32 bytes on: 2 units of 16
      wgmma(c, a + 2 * step, b + 2 * step);
    }
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
  }
  float sum = 0;
#pragma unroll
  for (float x : c) {
    sum += x;
  }
  out[blockIdx.x * blockDim.x + threadIdx.x] = sum;
#else
  (void)rounds;
  (void)out;
#endif
}

__global__ void fill_random(uint32_t* data, size_t count) {
  for (size_t i = size_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += size_t{gridDim.x} * blockDim.x) {
    data[i] = two_random_bf16(static_cast<uint32_t>(i));
  }
}

double copy_rate(int multiprocessors) {
  constexpr size_t kBytes = size_t{2} << 30;
  uint4* in = nullptr;
  uint4* out = nullptr;
  require(cudaMalloc(&in, kBytes), "cudaMalloc");
  require(cudaMalloc(&out, kBytes), "cudaMalloc");
  fill_random<<<1024, 256>>>(reinterpret_cast<uint32_t*>(in), kBytes / 4);
  const double own = seconds([&] { copy_kernel<<<multiprocessors * 8, 256>>>(in, out, kBytes / sizeof(uint4)); });
  const double driver =
      seconds([&] { require(cudaMemcpyAsync(out, in, kBytes, cudaMemcpyDeviceToDevice), "cudaMemcpyAsync"); });
  require(cudaFree(in), "cudaFree");
  require(cudaFree(out), "cudaFree");
  return 2.0 * kBytes / std::min(own, driver);
}

double product_rate(int size) {
  const size_t count = size_t(size) * size_t(size);
  __nv_bfloat16* m[3] = {};
  for (auto& matrix : m) {
    require(cudaMalloc(&matrix, 2 * count), "cudaMalloc");
    fill_random<<<1024, 256>>>(reinterpret_cast<uint32_t*>(matrix), count / 2);
  }
  cublasHandle_t handle;
  require(cublasCreate(&handle), "cublasCreate");
  const float one = 1;
  const float zero = 0;
  const double time = seconds([&] {
    require(cublasGemmEx(handle, CUBLAS_OP_T, CUBLAS_OP_N, size, size, size, &one, m[0], CUDA_R_16BF, size, m[1],
                         CUDA_R_16BF, size, &zero, m[2], CUDA_R_16BF, size, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
            "cublasGemmEx");
  });
  require(cublasDestroy(handle), "cublasDestroy");
  for (auto& matrix : m) {
    require(cudaFree(matrix), "cudaFree");
  }
  return 2.0 * size * size * size / time;
}

double mma_rate(int multiprocessors) {
  constexpr int kRounds = 4000;
  constexpr int kThreads = 512;
  float* out = nullptr;
  require(cudaMalloc(&out, sizeof(float) * size_t(multiprocessors) * kThreads), "cudaMalloc");
  const double time = seconds([&] { mma_loop<<<multiprocessors, kThreads>>>(kRounds, out); });
  require(cudaFree(out), "cudaFree");
  return 2.0 * 16 * 8 * 16 * kMmaAccumulators * kRounds * (kThreads / 32) * multiprocessors / time;
}

double wgmma_rate(int multiprocessors) {
  constexpr int kRounds = 4000;
  constexpr int kThreads = 256;
  float* out = nullptr;
  require(cudaMalloc(&out, sizeof(float) * 2 * size_t(multiprocessors) * kThreads), "cudaMalloc");
  const double time = seconds([&] { wgmma_loop<<<2 * multiprocessors, kThreads>>>(kRounds, out); });
  require(cudaFree(out), "cudaFree");
  return 2.0 * 64 * kWgmmaColumns * 64 * kRounds * (kThreads / 128) * 2 * multiprocessors / time;
}

}  // namespace

int main() {
  int count = 0;
  if (const cudaError_t status = cudaGetDeviceCount(&count); status != cudaSuccess || count == 0) {
    std::fprintf(stderr, "ceilings: no GPU: %s\n", cudaGetErrorString(status));
    return 77;
  }
  cudaDeviceProp device;
  require(cudaGetDeviceProperties(&device, 0), "cudaGetDeviceProperties");
  int driver = 0;
  int runtime = 0;
  require(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
  require(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");
  const int sms = device.multiProcessorCount;
  std::printf(
      "{\"gpu\": \"%s\", \"capability\": \"%d.%d\", \"multiprocessors\": %d, \"l2_bytes\": %d, "
      "\"driver\": %d, \"runtime\": %d, ",
      device.name, device.major, device.minor, sms, device.l2CacheSize, driver, runtime);
  std::printf("\"copy_bytes_per_s\": %.4g, ", copy_rate(sms));
  std::printf("\"bf16_product_flops\": %.4g, ", product_rate(8192));
  std::printf("\"mma_sync_flops\": %.4g, ", mma_rate(sms));
  if (device.major == 9) {
    std::printf("\"wgmma_flops\": %.4g}\n", wgmma_rate(sms));
  } else {
    std::printf("\"wgmma_flops\": null}\n");
  }
  return 0;
}
