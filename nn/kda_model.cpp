#include "nn/kda_model.h"

#include <utility>

#include "ops/arithmetic.h"
#include "ops/creation.h"
#include "ops/joining.h"
#include "ops/linalg.h"
#include "ops/softmax.h"
#include "ops/swiglu.h"
#include "ops/views.h"

namespace deltatape::nn {
namespace {

void check_ids(std::string_view function, const Tensor& ids) {
  check(ids.defined() && ids.rank() == 2 && is_integer(ids.dtype()), function, "ids is {}, expected i64 [B, T]",
        ids.defined() ? describe(ids) : "undefined");
}

}  // namespace

SwiGLU::SwiGLU(int64_t hidden_size, int64_t intermediate_size, Generator& generator, double deviation)
    : Module("SwiGLU"),
      gate_proj(hidden_size, intermediate_size, generator, false, deviation),
      up_proj(hidden_size, intermediate_size, generator, false, deviation),
      down_proj(intermediate_size, hidden_size, generator, false, deviation) {
  register_module("gate_proj", gate_proj);
  register_module("up_proj", up_proj);
  register_module("down_proj", down_proj);
}

Tensor SwiGLU::forward(const Tensor& x) const {
  return down_proj.forward(swiglu(gate_proj.forward(x), up_proj.forward(x)));
}

KDABlock::KDABlock(const KDAConfig& config, Generator& generator)
    : Module("KDABlock"),
      attn_norm(config.hidden_size, config.norm_eps),
      attn(config.layer(), generator),
      mlp_norm(config.hidden_size, config.norm_eps),
      mlp(config.hidden_size, config.mlp_size(), generator, config.initializer_range) {
  register_module("attn_norm", attn_norm);
  register_module("attn", attn);
  register_module("mlp_norm", mlp_norm);
  register_module("mlp", mlp);
}

Tensor KDABlock::add_mlp(const Tensor& h) const { return add(h, mlp.forward(mlp_norm.forward(h))); }

Tensor KDABlock::forward(const Tensor& h, const Tensor& cu_seqlens) const {
  return add_mlp(add(h, attn.forward(attn_norm.forward(h), cu_seqlens)));
}

Tensor KDABlock::forward_next(const Tensor& h, KDALayerCache& cache) const {
  KDALayerCache next = cache;
  Tensor y = add_mlp(add(h, attn.forward_next(attn_norm.forward(h), next)));
  cache = std::move(next);
  return y;
}

KDAModel::KDAModel(const KDAConfig& config, Generator& generator)
    : Module("KDAModel"),
      embeddings(config.vocab_size, config.hidden_size, generator, config.initializer_range),
      norm(config.hidden_size, config.norm_eps) {
  register_module("embeddings", embeddings);
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
    layers.push_back(std::make_unique<KDABlock>(config, generator));
    register_module("layers." + std::to_string(i), *layers.back());
  }
  register_module("norm", norm);
}

Tensor KDAModel::forward(const Tensor& ids, const Tensor& cu_seqlens) const {
  Tensor h = embeddings.forward(ids);
  for (const auto& layer : layers) {
    h = layer->forward(h, cu_seqlens);
  }
  return norm.forward(h);
}

Tensor KDAModel::forward_next(const Tensor& ids, KDACache& cache) const {
  check_ids(name(), ids);
  check(cache.layers.empty() || cache.layers.size() == layers.size(), name(),
        "cache has {} layers, expected {} or none", cache.layers.size(), layers.size());
  KDACache next = cache;  // so that an Error leaves `cache` as it was
  next.layers.resize(layers.size());
  Tensor h = embeddings.forward(ids);
  for (size_t i = 0; i < layers.size(); ++i) {
    h = layers[i]->forward_next(h, next.layers[i]);
  }
  next.length += ids.size(1);
  h = norm.forward(h);
  cache = std::move(next);
  return h;
}

namespace {

const KDAConfig& checked(const KDAConfig& config) {
  config.check_values();
  return config;
}

}  // namespace

KDAForCausalLM::KDAForCausalLM(const KDAConfig& config, Generator& generator)
    : Module("KDAForCausalLM"), model(checked(config), generator), config_(config) {
  register_module("model", model);
  if (!config.tie_word_embeddings) {
    lm_head =
        std::make_unique<Linear>(config.hidden_size, config.vocab_size, generator, false, config.initializer_range);
    register_module("lm_head", *lm_head);
  }
}

Tensor KDAForCausalLM::logits(const Tensor& h) const {
  return lm_head ? lm_head->forward(h) : matmul(h, transpose(model.embeddings.weight, 0, 1));
}

Tensor KDAForCausalLM::forward(const Tensor& ids, const Tensor& cu_seqlens) const {
  check_ids(name(), ids);
  return logits(model.forward(ids, cu_seqlens));
}

Tensor KDAForCausalLM::forward_next(const Tensor& ids, KDACache& cache) const {
  check_ids(name(), ids);
  KDACache next = cache;
  Tensor y = logits(model.forward_next(ids, next));
  cache = std::move(next);
  return y;
}

void KDAForCausalLM::set_implementation(kda::Implementation implementation, int64_t chunk_size) {
  for (const auto& layer : model.layers) {
    layer->attn.set_implementation(implementation, chunk_size);
  }
}

Tensor causal_lm_loss(const Tensor& logits, const Tensor& labels) {
  check(logits.defined() && logits.rank() == 3, "causal_lm_loss", "logits has shape {}, expected [B, T, C]",
        logits.defined() ? to_string(logits.shape()) : "none");
  const Shape expected{logits.size(0), logits.size(1)};
  check(labels.defined() && labels.shape() == expected, "causal_lm_loss", "labels has shape {}, expected [B, T] = {}",
        labels.defined() ? to_string(labels.shape()) : "none", expected);
  check(labels.dtype() == DType::i64, "causal_lm_loss", "labels has dtype {}, expected i64", labels.dtype());
  // Shifting the labels instead of the logits: the last position gets a label that does not count, and nothing large
  // is copied.
  constexpr double kIgnored = -100;
  const int64_t last = expected[1] == 0 ? 0 : 1;
  const Tensor targets =
      cat({slice(labels, 1, {last, std::nullopt}), full({expected[0], last}, kIgnored, labels.options())}, 1);
  return cross_entropy(logits, targets);
}

}  // namespace deltatape::nn
