#include "nn/kda_attention.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "ops/checks.h"
#include "ops/convert.h"
#include "ops/creation.h"
#include "ops/indexing.h"
#include "ops/unary.h"
#include "ops/views.h"

namespace deltatape::nn {
namespace {

const KDALayerConfig& checked(const KDALayerConfig& config) {
  config.check_values();
  return config;
}

/// FLA: A = uniform(1, 16), kept as its logarithm; 0 with safe_gate.
Tensor initial_A_log(const KDALayerConfig& config, Generator& generator) {
  std::vector<float> values(static_cast<size_t>(config.value_heads()), 0.0F);
  if (!config.safe_gate) {
    for (float& value : values) {
      value = static_cast<float>(std::log(1.0 + 15.0 * generator.next_uniform()));
    }
  }
  return from_vector(values);
}

/// FLA: the inverse softplus of d, log d uniform between log 0.001 and log 0.1, d at least 1e-4.
Tensor initial_dt_bias(const KDALayerConfig& config, Generator& generator) {
  std::vector<float> values(static_cast<size_t>(config.value_heads() * config.head_dim));
  const double low = std::log(0.001);
  const double high = std::log(0.1);
  for (float& value : values) {
    const double d = std::max(std::exp(low + (high - low) * generator.next_uniform()), 1e-4);
    value = static_cast<float>(d + std::log(-std::expm1(-d)));
  }
  return from_vector(values);
}

std::unique_ptr<ShortConvolution> make_convolution(const KDALayerConfig& config, int64_t channels,
                                                   Generator& generator) {
  if (!config.use_short_conv) {
    return nullptr;
  }
  const ShortConvolutionOptions options{.bias = config.conv_bias, .silu = true, .deviation = config.initializer_range};
  return std::make_unique<ShortConvolution>(channels, config.conv_size, generator, options);
}

/// The convolution of a projection, or only its activation when there is no convolution.
Tensor convolve(const std::unique_ptr<ShortConvolution>& convolution, const Tensor& x, const Tensor& cu_seqlens,
                Tensor* state) {
  if (!convolution) {
    return silu(x);
  }
  return state != nullptr ? convolution->forward_next(x, *state) : convolution->forward(x, cu_seqlens);
}

/// The tokens of a batch that are not padding, row after row.
struct Unpadded {
  Tensor tokens;      // i64 [L], their places among B*T, on `device`
  Tensor cu_seqlens;  // i64 [B+1], where those of each row begin
};

/// `mask` [B,T]. Throws Error naming `function`.
Unpadded unpadded(std::string_view function, const Tensor& mask, int64_t B, int64_t T, Device device) {
  check(mask.dtype() == DType::boolean || is_integer(mask.dtype()), function,
        "attention_mask has dtype {}, expected bool, i64 or i32", mask.dtype());
  check_shape(function, "attention_mask", mask, {B, T}, "[B, T]");
  const std::vector<int64_t> values = to(mask, Device::cpu()).to_vector<int64_t>();
  std::vector<int64_t> tokens;
  std::vector<int64_t> cu_seqlens{0};
  for (int64_t b = 0; b < B; ++b) {
    for (int64_t t = 0; t < T; ++t) {
      const int64_t value = values[static_cast<size_t>(b * T + t)];
      check(value == 0 || value == 1, function, "attention_mask[{}][{}] is {}, expected 0 or 1", b, t, value);
      if (value == 1) {
        tokens.push_back(b * T + t);
      }
    }
    cu_seqlens.push_back(static_cast<int64_t>(tokens.size()));
  }
  return {to(from_vector(tokens), device), from_vector(cu_seqlens)};
}

}  // namespace

LowRankLinear::LowRankLinear(int64_t in_features, int64_t rank, int64_t out_features, Generator& generator,
                             bool with_bias, double deviation)
    : Module("LowRankLinear"),
      down_(in_features, rank, generator, false, deviation),
      up_(rank, out_features, generator, with_bias, deviation) {
  register_module("0", down_);
  register_module("1", up_);
}

KimiDeltaAttention::KimiDeltaAttention(const KDALayerConfig& config, Generator& generator)
    : Module("KimiDeltaAttention"),
      q_proj(checked(config).hidden_size, config.num_heads * config.head_dim, generator, false,
             config.initializer_range),
      k_proj(config.hidden_size, config.num_heads * config.head_dim, generator, false, config.initializer_range),
      v_proj(config.hidden_size, config.value_heads() * config.head_v_dim(), generator, false,
             config.initializer_range),
      q_conv1d(make_convolution(config, config.num_heads * config.head_dim, generator)),
      k_conv1d(make_convolution(config, config.num_heads * config.head_dim, generator)),
      v_conv1d(make_convolution(config, config.value_heads() * config.head_v_dim(), generator)),
      f_proj(config.hidden_size, config.head_v_dim(), config.value_heads() * config.head_dim, generator, false,
             config.initializer_range),
      b_proj(config.hidden_size, config.value_heads(), generator, false, config.initializer_range),
      A_log(initial_A_log(config, generator)),
      dt_bias(initial_dt_bias(config, generator)),
      g_proj(config.hidden_size, config.head_v_dim(), config.value_heads() * config.head_v_dim(), generator, true,
             config.initializer_range),
      o_norm(config.head_v_dim(), config.norm_eps, "sigmoid"),
      o_proj(config.value_heads() * config.head_v_dim(), config.hidden_size, generator, false,
             config.initializer_range),
      config_(config) {
  register_module("q_proj", q_proj);
  register_module("k_proj", k_proj);
  register_module("v_proj", v_proj);
  if (config.use_short_conv) {
    register_module("q_conv1d", *q_conv1d);
    register_module("k_conv1d", *k_conv1d);
    register_module("v_conv1d", *v_conv1d);
  }
  register_module("f_proj", f_proj);
  register_module("b_proj", b_proj);
  register_parameter("A_log", A_log);
  register_parameter("dt_bias", dt_bias);
  register_module("g_proj", g_proj);
  register_module("o_norm", o_norm);
  register_module("o_proj", o_proj);
}

void KimiDeltaAttention::set_implementation(kda::Implementation implementation, int64_t chunk_size) {
  check(chunk_size == 16 || chunk_size == 32 || chunk_size == 64, name(), "chunk_size is {}, expected 16, 32 or 64",
        chunk_size);
  implementation_ = implementation;
  chunk_size_ = chunk_size;
}

Tensor KimiDeltaAttention::forward(const Tensor& x, const Tensor& cu_seqlens) const {
  return run(x, cu_seqlens, nullptr);
}

Tensor KimiDeltaAttention::forward(const Tensor& x, const TokenLayout& layout) const {
  if (!layout.attention_mask.defined()) {
    return run(x, layout.cu_seqlens, nullptr);
  }
  check(!layout.cu_seqlens.defined(), name(),
        "attention_mask and cu_seqlens are both given, expected at most one of them");
  return forward_unpadded(x, layout.attention_mask);
}

Tensor KimiDeltaAttention::forward_unpadded(const Tensor& x, const Tensor& attention_mask) const {
  check_input(x);
  const int64_t B = x.size(0);
  const int64_t T = x.size(1);
  const int64_t D = x.size(2);
  const Unpadded kept = unpadded(name(), attention_mask, B, T, x.device());
  if (B == 0) {
    return run(x, Tensor(), nullptr);
  }
  const Tensor packed = unsqueeze(index_select(reshape(x, {B * T, D}), 0, kept.tokens), 0);
  const Tensor y = squeeze(run(packed, kept.cu_seqlens, nullptr), 0);
  return reshape(index_add(zeros({B * T, D}, y.options()), 0, kept.tokens, y), {B, T, D});
}

Tensor KimiDeltaAttention::forward_next(const Tensor& x, KDALayerCache& cache) const {
  KDALayerCache next = cache;  // so that an Error leaves `cache` as it was
  Tensor y = run(x, Tensor(), &next);
  cache = std::move(next);
  return y;
}

void KimiDeltaAttention::check_input(const Tensor& x) const {
  check(x.defined() && x.rank() == 3 && x.size(2) == config_.hidden_size, name(),
        "x has shape {}, expected [B, T, hidden_size] with hidden_size = {}",
        x.defined() ? to_string(x.shape()) : "none", config_.hidden_size);
}

Tensor KimiDeltaAttention::run(const Tensor& x, const Tensor& cu_seqlens, KDALayerCache* cache) const {
  check_input(x);
  const int64_t B = x.size(0);
  const int64_t T = x.size(1);
  const Shape key_heads{B, T, config_.num_heads, config_.head_dim};
  const Shape value_heads{B, T, config_.value_heads(), config_.head_v_dim()};

  kda::Inputs inputs;
  inputs.q = reshape(convolve(q_conv1d, q_proj.forward(x), cu_seqlens, cache ? &cache->q_conv : nullptr), key_heads);
  inputs.k = reshape(convolve(k_conv1d, k_proj.forward(x), cu_seqlens, cache ? &cache->k_conv : nullptr), key_heads);
  inputs.v = reshape(convolve(v_conv1d, v_proj.forward(x), cu_seqlens, cache ? &cache->v_conv : nullptr), value_heads);
  inputs.g = reshape(f_proj.forward(x), {B, T, config_.value_heads(), config_.head_dim});
  inputs.beta = b_proj.forward(x);
  inputs.A_log = A_log;
  inputs.dt_bias = dt_bias;
  inputs.cu_seqlens = cu_seqlens;

  kda::Options options;
  options.gate = config_.lower_bound ? kda::Gate::lower_bound : kda::Gate::standard;
  options.lower_bound = config_.lower_bound.value_or(options.lower_bound);
  options.safe_gate = config_.safe_gate && config_.lower_bound && *config_.lower_bound >= -5.0;
  options.use_qk_l2norm = true;
  options.use_beta_sigmoid = true;
  options.allow_neg_eigval = config_.allow_neg_eigval;
  options.chunk_size = chunk_size_;
  if (cache != nullptr) {
    inputs.initial_state = cache->state;
    options.output_final_state = true;
  }
  // For a few tokens the composed chunk form would mostly compute padding.
  const bool few = implementation_ == kda::Implementation::chunk && cache != nullptr && T <= 4;
  const kda::Output result = kda::run(few ? kda::Implementation::recurrent : implementation_, inputs, options);
  if (cache != nullptr) {
    cache->state = result.final_state.detach();
  }
  const Tensor o = o_norm.forward(result.o, reshape(g_proj.forward(x), value_heads));
  return o_proj.forward(reshape(o, {B, T, config_.value_heads() * config_.head_v_dim()}));
}

}  // namespace deltatape::nn
