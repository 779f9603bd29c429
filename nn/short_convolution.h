// The depthwise causal convolution in front of linear attention.
#pragma once

#include "core/generator.h"
#include "nn/module.h"

namespace deltatape::nn {

struct ShortConvolutionOptions {
  bool bias = false;
  bool silu = true;         // apply silu to the result
  double deviation = 0.02;  // of the normal initial weights
};

/// y[b,t,d] = act(bias[d] + sum_j weight[d,0,j] x[b, t-W+1+j, d]), not reaching across sequence starts.
class ShortConvolution : public Module {
 public:
  ShortConvolution(int64_t channels, int64_t kernel_size, Generator& generator,
                   const ShortConvolutionOptions& options = {});

  /// x [B,T,D], `cu_seqlens` as in causal_conv1d.
  [[nodiscard]] Tensor forward(const Tensor& x, const Tensor& cu_seqlens = Tensor()) const;
  /// As forward, for a text that comes in pieces: `state` [B,W-1,D] holds the inputs before x (undefined: none) and is
  /// replaced by those before the next piece.
  [[nodiscard]] Tensor forward_next(const Tensor& x, Tensor& state) const;

  Tensor weight;  // [D,1,W], the last tap is the current step
  Tensor bias;    // [D], or undefined

 private:
  bool silu_;
};

}  // namespace deltatape::nn
