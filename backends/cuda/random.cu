// Random tensors: an element depends on its number alone, so a GPU draws what the CPU draws, normals within 4 ulp.
#include <cmath>
#include <numbers>

#include "backends/cuda/cuda_backend.h"
#include "backends/cuda/element.h"
#include "backends/cuda/graph_memory.h"
#include "backends/cuda/launch.h"
#include "backends/random_functions.h"

namespace deltatape::cuda {
namespace {

template <class T>
struct Uniform {
  PhiloxState state;
  T* out;
  DT_HD void operator()(int64_t i) const {
    out[i] = narrow<T>(uniform_value<T>(philox_words(state.seed, state.offset + static_cast<uint64_t>(i))));
  }
};

template <class T>
struct Normal {
  PhiloxState state;
  T* out;
  DT_HD void operator()(int64_t i) const {
    const BoxMullerPair pair = box_muller_pair(philox_words(state.seed, state.offset + static_cast<uint64_t>(i)));
    const double normal = std::sqrt(-2.0 * std::log(pair.first)) * std::cos(2.0 * std::numbers::pi * pair.second);
    out[i] = narrow<T>(static_cast<Compute<T>>(normal));
  }
};

template <class T>
struct Integers {
  PhiloxState state;
  int64_t low;
  uint64_t range;
  T* out;
  DT_HD void operator()(int64_t i) const {
    out[i] =
        static_cast<T>(integer_below(philox_words(state.seed, state.offset + static_cast<uint64_t>(i)), low, range));
  }
};

template <class T>
void launch_integers(PhiloxState state, int64_t low, uint64_t range, const Tensor& out) {
  launch_elements(current_stream(out.device()), out.numel(),
                  Integers<T>{state, low, range, static_cast<T*>(out.mutable_raw())});
}

}  // namespace

void CudaBackend::uniform(PhiloxState state, const Tensor& out) const {
  check_may_draw("uniform", out.device());
  visit_floating(out.dtype(), [&](auto tag) {
    using T = decltype(tag);
    launch_elements(current_stream(out.device()), out.numel(), Uniform<T>{state, static_cast<T*>(out.mutable_raw())});
  });
}

void CudaBackend::normal(PhiloxState state, const Tensor& out) const {
  check_may_draw("normal", out.device());
  visit_floating(out.dtype(), [&](auto tag) {
    using T = decltype(tag);
    launch_elements(current_stream(out.device()), out.numel(), Normal<T>{state, static_cast<T*>(out.mutable_raw())});
  });
}

void CudaBackend::random_integers(PhiloxState state, int64_t low, int64_t high, const Tensor& out) const {
  check_may_draw("random_integers", out.device());
  const uint64_t range = static_cast<uint64_t>(high) - static_cast<uint64_t>(low);
  out.dtype() == DType::i64 ? launch_integers<int64_t>(state, low, range, out)
                            : launch_integers<int32_t>(state, low, range, out);
}

}  // namespace deltatape::cuda
