#include "backends/cuda/runtime/blas.h"

#include <cublas_v2.h>
#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <exception>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "backends/cuda/graph_memory.h"
#include "backends/cuda/runtime/check.h"
#include "backends/cuda/runtime/device.h"
#include "core/error.h"

namespace deltatape::cuda {
namespace {

// The few functions that are used.
struct Library {
  decltype(&cublasCreate_v2) create;
  decltype(&cublasDestroy_v2) destroy;
  decltype(&cublasSetStream_v2) set_stream;
  decltype(&cublasSetWorkspace_v2) set_workspace;
  decltype(&cublasSetMathMode) set_math_mode;
  decltype(&cublasGetStatusString) status_string;
  decltype(&cublasGemmStridedBatchedEx_64) gemm;
};

template <class F>
void find(void* library, const char* name, F& function) {
  function = reinterpret_cast<F>(dlsym(library, name));
  check(function != nullptr, "matmul", "cuBLAS has no function {}", name);
}

Library load() {
  const std::string name = fmt::format("libcublas.so.{}", CUDART_VERSION / 1000);
  void* library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  const char* said = library == nullptr ? dlerror() : nullptr;
  const std::string reason = said == nullptr ? "" : said;
  if (library == nullptr) {  // where the toolkit was when this was compiled
    library = dlopen((std::string(DELTATAPE_CUDA_LIBRARIES) + "/" + name).c_str(), RTLD_NOW | RTLD_LOCAL);
  }
  check(library != nullptr, "matmul", "cuBLAS cannot be loaded: {}", reason);
  Library found{};
  find(library, "cublasCreate_v2", found.create);
  find(library, "cublasDestroy_v2", found.destroy);
  find(library, "cublasSetStream_v2", found.set_stream);
  find(library, "cublasSetWorkspace_v2", found.set_workspace);
  find(library, "cublasSetMathMode", found.set_math_mode);
  find(library, "cublasGetStatusString", found.status_string);
  find(library, "cublasGemmStridedBatchedEx_64", found.gemm);
  return found;
}

const Library& library() {
  static const Library loaded = load();
  return loaded;
}

void check_blas(cublasStatus_t status, const char* call, Device device) {
  check(status == CUBLAS_STATUS_SUCCESS, call, "failed on {}: {}", device, library().status_string(status));
}

// One per stream, with working memory of its own, so that products on several streams do not meet.
struct Handle {
  cublasHandle_t handle = nullptr;
  void* workspace = nullptr;
  bool ready = false;  // otherwise something has failed, and is tried again
};
constexpr size_t kWorkspace = size_t{32} << 20;  // what NVIDIA advises for Hopper
struct Handles {
  std::mutex mutex;  // a handle serves one thread at a time
  std::map<std::pair<int, void*>, Handle> of;
};

// Never destroyed: the driver may be gone before static objects are.
Handles& handles() {
  static auto* instance = new Handles;
  return *instance;
}

cublasHandle_t handle_of(Handles& all, const Stream& stream) {
  Handle& known = all.of[{stream.device().index(), stream.handle()}];
  if (!known.ready) {
    const Device device = stream.device();
    if (known.workspace == nullptr) {
      known.workspace = take_system_block(kWorkspace, device);
    }
    if (known.handle == nullptr) {
      check_blas(library().create(&known.handle), "cublasCreate", device);
    }
    check_blas(library().set_stream(known.handle, static_cast<cudaStream_t>(stream.handle())), "cublasSetStream",
               device);
    check_blas(library().set_workspace(known.handle, known.workspace, kWorkspace), "cublasSetWorkspace", device);
    check_blas(library().set_math_mode(
                   known.handle,
                   static_cast<cublasMath_t>(CUBLAS_DEFAULT_MATH | CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION)),
               "cublasSetMathMode", device);
    known.ready = true;
  }
  return known.handle;
}

cudaDataType_t data_type(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return CUDA_R_64F;
    case DType::bf16:
      return CUDA_R_16BF;
    case DType::f16:
      return CUDA_R_16F;
    default:
      return CUDA_R_32F;
  }
}

cublasOperation_t operation(const BlasMatrix& matrix) { return matrix.transposed ? CUBLAS_OP_T : CUBLAS_OP_N; }

}  // namespace

void multiply(const BlasProduct& product, const Stream& stream) {
  Handles& all = handles();
  const std::scoped_lock lock(all.mutex);
  const DeviceGuard guard(stream.device());
  const cublasHandle_t handle = handle_of(all, stream);
  const cudaDataType_t type = data_type(product.dtype);
  const bool wide = product.dtype == DType::f64;
  const float one = 1.0F;
  const float zero = 0.0F;
  const double wide_one = 1.0;
  const double wide_zero = 0.0;
  const void* alpha = wide ? static_cast<const void*>(&wide_one) : &one;
  const void* beta = wide ? static_cast<const void*>(&wide_zero) : &zero;
  check_blas(library().gemm(handle, operation(product.a), operation(product.b), product.m, product.n, product.k, alpha,
                            product.a.data, type, product.a.ld, product.a.stride, product.b.data, type, product.b.ld,
                            product.b.stride, beta, product.c, type, product.ldc, product.stride_c, product.batch,
                            wide ? CUBLAS_COMPUTE_64F : CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
             "cublasGemmStridedBatchedEx", stream.device());
}

void prepare_products(const Stream& stream) {
  Handles& all = handles();
  const std::scoped_lock lock(all.mutex);
  if (!all.of.empty()) {
    const DeviceGuard guard(stream.device());
    handle_of(all, stream);
  }
}

void release_products(const Stream& stream) noexcept {
  Handles& all = handles();
  const std::scoped_lock lock(all.mutex);
  const auto found = all.of.find({stream.device().index(), stream.handle()});
  if (found == all.of.end()) {
    return;
  }
  const Handle released = found->second;
  all.of.erase(found);
  try {
    const DeviceGuard guard(stream.device());
    if (released.handle != nullptr) {
      library().destroy(released.handle);
    }
    if (released.workspace != nullptr) {
      put_system_block(released.workspace, kWorkspace, stream.device());
    }
  } catch (const std::exception&) {  // the driver is gone, and what it kept with it
  }
}

}  // namespace deltatape::cuda
