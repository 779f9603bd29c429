#include "nn/kda_config.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <type_traits>

#include "core/error.h"

namespace deltatape::nn {
namespace {

using Json = nlohmann::ordered_json;
constexpr std::string_view kName = "KDAConfig";

constexpr int64_t kSizeEnd = int64_t{1} << 31;  // products of two sizes stay in int64_t

void check_below_end(std::string_view function, std::string_view key, int64_t value) {
  check(value < kSizeEnd, function, "{} is {}, expected less than 2^31", key, value);
}

void check_size(std::string_view function, std::string_view key, int64_t value) {
  check(value >= 1, function, "{} is {}, expected at least 1", key, value);
  check_below_end(function, key, value);
}

/// Reads keys of one object and remembers which ones were asked for.
class Reader {
 public:
  explicit Reader(Json object) : object_(std::move(object)) {}

  template <class T>
  void read(const char* key, T& value) {
    const auto found = object_.find(key);
    if (found == object_.end()) {
      return;
    }
    value = convert<T>(key, *found);
    object_.erase(found);
  }

  template <class T>
  void read(const char* key, std::optional<T>& value) {
    const auto found = object_.find(key);
    if (found == object_.end()) {
      return;
    }
    if (found->is_null()) {
      value = std::nullopt;
    } else {
      value = convert<T>(key, *found);
    }
    object_.erase(found);
  }

  /// Throws Error when `key` is there and neither null nor `allowed`.
  void refuse_unless(const char* key, const Json& allowed, std::string_view what) const {
    const auto found = object_.find(key);
    check(found == object_.end() || found->is_null() || *found == allowed, kName, "{} is {}, expected {}", key,
          found == object_.end() ? "" : found->dump(), what);
  }

  /// What nobody asked for.
  [[nodiscard]] const Json& rest() const { return object_; }

 private:
  template <class T>
  static T convert(const char* key, const Json& value) {
    if constexpr (std::is_same_v<T, bool>) {
      check(value.is_boolean(), kName, "{} is {}, expected true or false", key, value.dump());
    } else if constexpr (std::is_same_v<T, int64_t>) {
      const bool fits = value.is_number_integer() && !(value.is_number_unsigned() && value.get<uint64_t>() > INT64_MAX);
      check(fits, kName, "{} is {}, expected an integer", key, value.dump());
    } else if constexpr (std::is_same_v<T, double>) {
      check(value.is_number(), kName, "{} is {}, expected a number", key, value.dump());
    } else {
      check(value.is_string(), kName, "{} is {}, expected a string", key, value.dump());
    }
    return value.get<T>();
  }

  Json object_;
};

template <class T>
Json or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json(nullptr);
}

}  // namespace

void KDALayerConfig::check_values() const {
  constexpr std::string_view function = "KimiDeltaAttention";
  check_size(function, "hidden_size", hidden_size);
  check_size(function, "num_heads", num_heads);
  check_size(function, "head_dim", head_dim);
  check_size(function, "conv_size", conv_size);
  check(value_heads() >= 1 && value_heads() % num_heads == 0, function,
        "num_v_heads is {}, expected a multiple of num_heads = {}", value_heads(), num_heads);
  check_below_end(function, "num_v_heads", value_heads());
  check_below_end(function, "num_heads * head_dim", num_heads * head_dim);
  check_below_end(function, "num_v_heads * head_dim", value_heads() * head_dim);
  const double v_dim = static_cast<double>(head_dim) * expand_v;
  check(expand_v > 0.0 && v_dim == std::floor(v_dim) && v_dim < 1e9, function,
        "expand_v is {}, expected a positive number whose product with head_dim = {} is an integer", expand_v,
        head_dim);
  check_below_end(function, "num_v_heads * head_dim * expand_v", value_heads() * head_v_dim());
  check(!lower_bound || (std::isfinite(*lower_bound) && *lower_bound < 0.0), function,
        "lower_bound is {}, expected null or a number below 0", lower_bound.value_or(0.0));
  check(std::isfinite(norm_eps) && norm_eps > 0.0, function, "norm_eps is {}, expected a number above 0", norm_eps);
  check(std::isfinite(initializer_range) && initializer_range >= 0.0, function,
        "initializer_range is {}, expected a number of at least 0", initializer_range);
}

int64_t KDAConfig::mlp_size() const {
  if (intermediate_size) {
    return *intermediate_size;
  }
  check_size(kName, "hidden_size", hidden_size);
  check_size(kName, "hidden_ratio", hidden_ratio.value_or(4));
  constexpr int64_t kMultiple = 256;
  const int64_t wanted = hidden_size * hidden_ratio.value_or(4) * 2 / 3;
  return kMultiple * ((wanted + kMultiple - 1) / kMultiple);
}

KDALayerConfig KDAConfig::layer() const {
  KDALayerConfig layer;
  layer.hidden_size = hidden_size;
  layer.num_heads = num_heads;
  layer.num_v_heads = num_v_heads;
  layer.head_dim = head_dim;
  layer.expand_v = expand_v;
  layer.use_short_conv = use_short_conv;
  layer.conv_size = conv_size;
  layer.conv_bias = false;
  layer.allow_neg_eigval = allow_neg_eigval;
  layer.safe_gate = safe_gate;
  layer.lower_bound = lower_bound;
  layer.norm_eps = norm_eps;
  layer.initializer_range = initializer_range;
  return layer;
}

void KDAConfig::check_values() const {
  layer().check_values();
  check(!hidden_ratio || *hidden_ratio >= 1, kName, "hidden_ratio is {}, expected null or at least 1",
        hidden_ratio.value_or(0));
  check(!intermediate_size || *intermediate_size >= 1, kName, "intermediate_size is {}, expected null or at least 1",
        intermediate_size.value_or(0));
  check(hidden_act == "swish" || hidden_act == "silu", kName, "hidden_act is {}, expected swish or silu", hidden_act);
  check_below_end(kName, intermediate_size ? "intermediate_size" : "the MLP's width by hidden_ratio", mlp_size());
  check(num_hidden_layers >= 0, kName, "num_hidden_layers is {}, expected at least 0", num_hidden_layers);
  check_below_end(kName, "num_hidden_layers", num_hidden_layers);
  check_size(kName, "vocab_size", vocab_size);
}

KDAConfig KDAConfig::from_json(const std::string& text) {
  Json object = Json::parse(text, nullptr, false);
  check(!object.is_discarded(), kName, "the text is not valid JSON");
  check(object.is_object(), kName, "the text is a JSON {}, expected an object", object.type_name());
  Reader reader(std::move(object));
  reader.refuse_unless("model_type", "kda", "\"kda\"");
  reader.refuse_unless("attn", nullptr, "null (hybrid models are not supported)");
  reader.refuse_unless("attnres_block_size", nullptr, "null (attention over blocks is not supported)");
  reader.refuse_unless("use_l2warp", false, "false (not supported)");

  KDAConfig config;
  reader.read("hidden_size", config.hidden_size);
  reader.read("num_heads", config.num_heads);
  reader.read("num_v_heads", config.num_v_heads);
  reader.read("head_dim", config.head_dim);
  reader.read("expand_v", config.expand_v);
  reader.read("use_short_conv", config.use_short_conv);
  reader.read("conv_size", config.conv_size);
  reader.read("allow_neg_eigval", config.allow_neg_eigval);
  reader.read("safe_gate", config.safe_gate);
  reader.read("lower_bound", config.lower_bound);
  reader.read("hidden_ratio", config.hidden_ratio);
  reader.read("intermediate_size", config.intermediate_size);
  reader.read("hidden_act", config.hidden_act);
  reader.read("num_hidden_layers", config.num_hidden_layers);
  reader.read("norm_eps", config.norm_eps);
  reader.read("tie_word_embeddings", config.tie_word_embeddings);
  reader.read("initializer_range", config.initializer_range);
  reader.read("vocab_size", config.vocab_size);
  reader.read("bos_token_id", config.bos_token_id);
  reader.read("eos_token_id", config.eos_token_id);
  reader.read("pad_token_id", config.pad_token_id);
  for (const auto& [key, value] : reader.rest().items()) {
    if (key != "model_type" && key != "architectures") {
      config.other_keys[key] = value.dump();
    }
  }
  config.check_values();
  return config;
}

std::string KDAConfig::to_json() const {
  Json object;
  object["architectures"] = {"KDAForCausalLM"};
  object["model_type"] = "kda";
  object["hidden_size"] = hidden_size;
  object["num_heads"] = num_heads;
  object["num_v_heads"] = or_null(num_v_heads);
  object["head_dim"] = head_dim;
  object["expand_v"] = expand_v;
  object["use_short_conv"] = use_short_conv;
  object["conv_size"] = conv_size;
  object["allow_neg_eigval"] = allow_neg_eigval;
  object["safe_gate"] = safe_gate;
  object["lower_bound"] = or_null(lower_bound);
  object["hidden_ratio"] = or_null(hidden_ratio);
  object["intermediate_size"] = or_null(intermediate_size);
  object["hidden_act"] = hidden_act;
  object["num_hidden_layers"] = num_hidden_layers;
  object["norm_eps"] = norm_eps;
  object["tie_word_embeddings"] = tie_word_embeddings;
  object["initializer_range"] = initializer_range;
  object["vocab_size"] = vocab_size;
  object["bos_token_id"] = or_null(bos_token_id);
  object["eos_token_id"] = or_null(eos_token_id);
  object["pad_token_id"] = or_null(pad_token_id);
  for (const auto& [key, value] : other_keys) {
    object[key] = Json::parse(value);
  }
  return object.dump(2) + "\n";
}

}  // namespace deltatape::nn
