// The Kimi Delta Attention layer, with FLA's structure and parameter names.
#pragma once

#include <memory>

#include "nn/kda_config.h"
#include "nn/linear.h"
#include "nn/norm.h"
#include "nn/short_convolution.h"
#include "ops/kda/plan.h"

namespace deltatape::nn {

/// What a layer carries from one piece of text to the next. Undefined tensors: nothing has been read yet.
struct KDALayerCache {
  Tensor q_conv;  // [B,W-1,H*K], the last inputs of the convolution
  Tensor k_conv;
  Tensor v_conv;  // [B,W-1,HV*V]
  Tensor state;   // [B,HV,K,V]
};

/// Which tokens of a batch form a text. Both undefined: every row of x is one. At most one may be given.
struct TokenLayout {
  /// bool, i64 or i32 [B,T] of 0 (padding) and 1; padding may stand anywhere, and be all of a row.
  Tensor attention_mask = {};
  /// i64 or i32 [N+1]: packed documents, B = 1.
  Tensor cu_seqlens = {};
};

/// Two Linear maps in a row, `0` without and `1` with or without bias: in_features -> rank -> out_features.
class LowRankLinear : public Module {
 public:
  LowRankLinear(int64_t in_features, int64_t rank, int64_t out_features, Generator& generator, bool with_bias,
                double deviation);
  [[nodiscard]] Tensor forward(const Tensor& x) const { return up_.forward(down_.forward(x)); }

 private:
  Linear down_;
  Linear up_;
};

/// Source: Kimi Team, "Kimi Linear", 2025; the layer as flash-linear-attention defines it:
///   q, k, v = silu(conv(x W')); g = f_proj(x); beta = b_proj(x);
///   o = kda(q, k, v, gate(g; A_log, dt_bias), sigmoid(beta)), q and k L2-normalised;
///   y = o_proj(rms_norm(o) * sigmoid(g_proj(x))).
class KimiDeltaAttention : public Module {
 public:
  /// FLA's initial parameters: weights normal with deviation initializer_range, A_log = log of uniform(1, 16) (0 with
  /// safe_gate), dt_bias = softplus^-1(d) with d log-uniform in [0.001, 0.1], at least 1e-4. Throws Error for a config
  /// that check_values refuses.
  KimiDeltaAttention(const KDALayerConfig& config, Generator& generator);

  /// x [B,T,hidden_size] gives the same shape. `cu_seqlens` i64 or i32 [N+1]: packed documents, B = 1.
  [[nodiscard]] Tensor forward(const Tensor& x, const Tensor& cu_seqlens = Tensor()) const;
  /// The same with either way to say which tokens form a text: forward(x, {.attention_mask = mask}). Padding is taken
  /// out before anything is computed: nothing of it reaches the result, which is zero there, as is x's gradient.
  [[nodiscard]] Tensor forward(const Tensor& x, const TokenLayout& layout) const;
  /// As forward, for a text that comes in pieces; `cache` is brought up to date, and unchanged by an
  /// Error.
  [[nodiscard]] Tensor forward_next(const Tensor& x, KDALayerCache& cache) const;

  /// Which implementation of the operator runs; all give the same result up to rounding. At first `automatic`, which is
  /// a fused kernel (kda::plan). `chunk` runs the recurrence where forward_next is given but a few tokens.
  void set_implementation(kda::Implementation implementation, int64_t chunk_size = 32);
  [[nodiscard]] kda::Implementation implementation() const { return implementation_; }
  [[nodiscard]] int64_t chunk_size() const { return chunk_size_; }

  Linear q_proj;
  Linear k_proj;
  Linear v_proj;
  std::unique_ptr<ShortConvolution> q_conv1d;  // null without use_short_conv
  std::unique_ptr<ShortConvolution> k_conv1d;
  std::unique_ptr<ShortConvolution> v_conv1d;
  LowRankLinear f_proj;
  Linear b_proj;
  Tensor A_log;    // [HV]
  Tensor dt_bias;  // [HV*K]
  LowRankLinear g_proj;
  GatedRMSNorm o_norm;
  Linear o_proj;

 private:
  void check_input(const Tensor& x) const;
  [[nodiscard]] Tensor forward_unpadded(const Tensor& x, const Tensor& attention_mask) const;
  [[nodiscard]] Tensor run(const Tensor& x, const Tensor& cu_seqlens, KDALayerCache* cache) const;

  KDALayerConfig config_;
  kda::Implementation implementation_ = kda::Implementation::automatic;
  int64_t chunk_size_ = 32;
};

}  // namespace deltatape::nn
