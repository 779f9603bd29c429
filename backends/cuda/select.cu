// Choices between elements: where and clamp.
#include "backends/cuda/convert.h"
#include "backends/cuda/cuda_backend.h"
#include "backends/cuda/map.h"
#include "backends/elementwise_functions.h"

namespace deltatape::cuda {
namespace {

/// Elements are moved, not computed with, so only their size matters.
template <class Word>
struct Where {
  Loop<4> loop;  // out, condition, a, b
  const bool* condition;
  const Word* a;
  const Word* b;
  Word* out;
  DT_HD void operator()(int64_t i) const {
    const auto at = loop.offsets(i);
    out[at.of[0]] = condition[at.of[1]] ? a[at.of[2]] : b[at.of[3]];
  }
};

template <class C>
struct Clamp {
  C low;
  C high;
  DT_HD C operator()(C x) const {
    return elementwise::select(x < low, low, elementwise::select(x > high, high, x));  // NaN stays
  }
};

}  // namespace

void CudaBackend::where(const Tensor& condition, const Tensor& a, const Tensor& b, const Tensor& out) const {
  visit_element_size(out.dtype(), [&](auto tag) {
    using Word = decltype(tag);
    const Where<Word> body{merged_loop<4>(out.shape(), {&out, &condition, &a, &b}),
                           static_cast<const bool*>(condition.raw()), static_cast<const Word*>(a.raw()),
                           static_cast<const Word*>(b.raw()), static_cast<Word*>(out.mutable_raw())};
    launch_elements(current_stream(out.device()), out.numel(), body);
  });
}

void CudaBackend::clamp(const Tensor& x, double low, double high, const Tensor& out) const {
  visit_compute_type(out.dtype(), [&](auto tag) {
    using C = decltype(tag);
    // A number outside the integers' range stands for the nearest integer.
    map_elements<C, C, 1>(Clamp<C>{convert<C>(low), convert<C>(high)}, {x}, out);
  });
}

}  // namespace deltatape::cuda
