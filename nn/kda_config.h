// The description of a KDA language model, in the keys of FLA's config.json.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

namespace deltatape::nn {

/// One KimiDeltaAttention layer. Names and defaults are FLA's.
struct KDALayerConfig {
  int64_t hidden_size = 2048;
  int64_t num_heads = 16;                             // H
  std::optional<int64_t> num_v_heads = std::nullopt;  // HV, a multiple of H; default H
  int64_t head_dim = 128;                             // K
  double expand_v = 1.0;                              // V = head_dim * expand_v
  bool use_short_conv = true;
  int64_t conv_size = 4;
  bool conv_bias = false;
  bool allow_neg_eigval = false;
  bool safe_gate = false;  // initial A_log of 0; with a lower_bound in [-5, 0) the operator may centre decays
  std::optional<double> lower_bound = std::nullopt;
  double norm_eps = 1e-5;
  double initializer_range = 0.02;

  [[nodiscard]] int64_t value_heads() const { return num_v_heads.value_or(num_heads); }
  [[nodiscard]] int64_t head_v_dim() const { return static_cast<int64_t>(static_cast<double>(head_dim) * expand_v); }
  /// Throws Error that names the key, its value and what is allowed; sizes and their products are below 2^31.
  void check_values() const;
};

/// A model of KDA layers. Names and defaults are those of FLA's KDAConfig.
struct KDAConfig {
  int64_t hidden_size = 2048;
  int64_t num_heads = 16;
  std::optional<int64_t> num_v_heads = std::nullopt;
  int64_t head_dim = 128;
  double expand_v = 1.0;
  bool use_short_conv = true;
  int64_t conv_size = 4;
  bool allow_neg_eigval = false;
  bool safe_gate = false;
  std::optional<double> lower_bound = std::nullopt;
  std::optional<int64_t> hidden_ratio = 4;                  // null counts as 4
  std::optional<int64_t> intermediate_size = std::nullopt;  // default: see mlp_size
  std::string hidden_act = "swish";                         // or silu, the same function; no other
  int64_t num_hidden_layers = 24;
  double norm_eps = 1e-6;
  bool tie_word_embeddings = false;
  double initializer_range = 0.02;
  int64_t vocab_size = 32000;
  std::optional<int64_t> bos_token_id = 1;
  std::optional<int64_t> eos_token_id = 2;
  std::optional<int64_t> pad_token_id = std::nullopt;
  /// Every other key that was read, with its value as JSON text; written back as it came. They have no effect here.
  std::map<std::string, std::string> other_keys;

  /// Width of the MLP: intermediate_size, else 256 ceil(int(hidden_size hidden_ratio 2 / 3) / 256). Throws
  /// Error for a hidden_size or hidden_ratio outside [1, 2^31).
  [[nodiscard]] int64_t mlp_size() const;
  [[nodiscard]] KDALayerConfig layer() const;
  /// Throws Error that names the key, its value and what is allowed; sizes and their products are below 2^31.
  void check_values() const;

  /// Reads the text of a config.json. Missing keys keep their defaults, null stands for "not set" where that is
  /// possible, keys without meaning here go to other_keys. Throws Error that names the key for a value of the wrong
  /// type or range, and for what this model does not have: another model_type, hybrid layers (`attn`), residual
  /// attention
  /// (`attnres_block_size`), another hidden_act.
  static KDAConfig from_json(const std::string& text);
  /// The text of a config.json that FLA and from_json read.
  [[nodiscard]] std::string to_json() const;
};

}  // namespace deltatape::nn
