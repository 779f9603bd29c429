#include "nn/short_convolution.h"

#include "nn/wide.h"
#include "ops/arithmetic.h"
#include "ops/convolution.h"
#include "ops/creation.h"
#include "ops/joining.h"
#include "ops/random.h"
#include "ops/unary.h"
#include "ops/views.h"

namespace deltatape::nn {

ShortConvolution::ShortConvolution(int64_t channels, int64_t kernel_size, Generator& generator,
                                   const ShortConvolutionOptions& options)
    : Module("ShortConvolution"), silu_(options.silu) {
  check(channels >= 1 && kernel_size >= 1, name(), "{} channels and a kernel of {}, expected at least 1", channels,
        kernel_size);
  weight = mul(randn({channels, 1, kernel_size}, generator), options.deviation);
  register_parameter("weight", weight);
  if (options.bias) {
    bias = zeros({channels});
    register_parameter("bias", bias);
  }
}

Tensor ShortConvolution::forward(const Tensor& x, const Tensor& cu_seqlens) const {
  if (!silu_) {
    return causal_conv1d(x, squeeze(weight, 1), bias, cu_seqlens);
  }
  return deltatape::to(silu(causal_conv1d(wide(x), wide(squeeze(weight, 1)), wide(bias), cu_seqlens)), x.dtype());
}

Tensor ShortConvolution::forward_next(const Tensor& x, Tensor& state) const {
  check(x.defined() && x.rank() == 3, name(), "x has shape {}, expected [B, T, D]",
        x.defined() ? to_string(x.shape()) : "none");
  const int64_t past = weight.size(2) - 1;
  const Shape expected{x.size(0), past, x.size(2)};
  check(!state.defined() || state.shape() == expected, name(), "state has shape {}, expected [B, W-1, D] = {}",
        state.defined() ? to_string(state.shape()) : "none", expected);
  const Tensor seen = cat({state.defined() ? state : zeros(expected, x.options()), x}, 1);
  Tensor y = slice(forward(seen), 1, {past, std::nullopt});
  state = clone(slice(seen.detach(), 1, {x.size(1), std::nullopt}));
  return y;
}

}  // namespace deltatape::nn
