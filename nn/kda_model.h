// The KDA language model, with FLA's structure and parameter names (KDAForCausalLM).
#pragma once

#include <memory>
#include <vector>

#include "nn/kda_attention.h"
#include "nn/kda_config.h"

namespace deltatape::nn {

/// down_proj(silu(gate_proj(x)) * up_proj(x)).
/// Source: Shazeer, "GLU Variants Improve Transformer", 2020.
class SwiGLU : public Module {
 public:
  SwiGLU(int64_t hidden_size, int64_t intermediate_size, Generator& generator, double deviation = 0.02);
  [[nodiscard]] Tensor forward(const Tensor& x) const;

  Linear gate_proj;
  Linear up_proj;
  Linear down_proj;
};

/// h + attn(norm(h)), then h + mlp(norm(h)).
class KDABlock : public Module {
 public:
  KDABlock(const KDAConfig& config, Generator& generator);
  /// h [B,T,hidden_size].
  [[nodiscard]] Tensor forward(const Tensor& h, const Tensor& cu_seqlens = Tensor()) const;
  [[nodiscard]] Tensor forward_next(const Tensor& h, KDALayerCache& cache) const;

  RMSNorm attn_norm;
  KimiDeltaAttention attn;
  RMSNorm mlp_norm;
  SwiGLU mlp;

 private:
  [[nodiscard]] Tensor add_mlp(const Tensor& h) const;
};

/// What a model carries from one piece of text to the next.
struct KDACache {
  std::vector<KDALayerCache> layers;  // empty: nothing has been read yet
  int64_t length = 0;                 // tokens read so far
};

/// Embedding, blocks and the last norm: everything below the logits.
class KDAModel : public Module {
 public:
  KDAModel(const KDAConfig& config, Generator& generator);
  [[nodiscard]] Tensor forward(const Tensor& ids, const Tensor& cu_seqlens = Tensor()) const;
  [[nodiscard]] Tensor forward_next(const Tensor& ids, KDACache& cache) const;

  Embedding embeddings;
  std::vector<std::unique_ptr<KDABlock>> layers;
  RMSNorm norm;
};

class KDAForCausalLM : public Module {
 public:
  /// FLA's initial parameters, drawn from `generator`, in f32. Throws Error for a config that check_values refuses.
  KDAForCausalLM(const KDAConfig& config, Generator& generator);

  /// Logits [B,T,vocab_size] of ids (i64) [B,T]. `cu_seqlens` i64 or i32 [N+1]: packed documents, B = 1; neither
  /// convolution nor state reaches across a document start.
  [[nodiscard]] Tensor forward(const Tensor& ids, const Tensor& cu_seqlens = Tensor()) const;
  /// As forward, for a text that comes in pieces (decoding). The cache holds no history: gradients stop at its border.
  /// An Error leaves it unchanged.
  [[nodiscard]] Tensor forward_next(const Tensor& ids, KDACache& cache) const;

  [[nodiscard]] const KDAConfig& config() const { return config_; }
  /// For all layers.
  void set_implementation(kda::Implementation implementation, int64_t chunk_size = 32);

  KDAModel model;
  std::unique_ptr<Linear> lm_head;  // null with tie_word_embeddings

 private:
  [[nodiscard]] Tensor logits(const Tensor& h) const;

  KDAConfig config_;
};

/// Mean cross entropy of predicting labels[b,t+1] from logits[b,t]; labels of -100 do not count. logits [B,T,C], labels
/// i64 [B,T] (unshifted). Rank 0; NaN when no label counts.
Tensor causal_lm_loss(const Tensor& logits, const Tensor& labels);

}  // namespace deltatape::nn
